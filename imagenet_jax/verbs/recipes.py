"""`launch.py recipes`: what published recipes are, what they reached, and what they would cost."""

import argparse
import fnmatch
import math
from typing import Any

import ml_collections

from imagenet_jax.config.files import load_recipes
from imagenet_jax.data.names import train_size
from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.study.recipe_costs import PLACES, predicted_cost
from imagenet_jax.verbs.verb import Verb


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="*", help="only those with one of these in the name")
    parser.add_argument("--markdown", action="store_true", help="as the table of docs/recipes.md")


def _run(args: argparse.Namespace, config: ml_collections.ConfigDict) -> dict[str, Any]:
    recipes = load_recipes()
    patterns = [p if set(p) & set("*?[") else f"*{p}*" for p in args.pattern or ("*",)]
    names = [name for name in recipes if any(fnmatch.fnmatch(name, p) for p in patterns)]
    if not names:
        wanted = " or ".join(map(repr, args.pattern))
        raise ConfigError(f"no recipe matches {wanted}{did_you_mean(args.pattern[0], recipes)}")
    rows = []
    for name in names:
        recipe, published = recipes[name]
        sizes = train_size(recipe.data), recipe.data.image_size
        rows.append(
            {
                "name": name,
                "model": recipe.model.name,
                "duration": recipe.duration,
                "batch_size": recipe.batch_size,
                "train_size": sizes[0],
                "eval_size": sizes[1],
                **published._asdict(),
                "predicted": _predicted(recipe),
            }
        )
    return {"recipes": rows, **({"markdown": True} if args.markdown else {})}


def _predicted(recipe: ml_collections.ConfigDict) -> dict[str, dict[str, float] | None]:
    """Hours and images/s by the hardware; None where nothing is known."""
    costs = {place: predicted_cost(recipe, place) for place in PLACES}
    return {place: cost and cost._asdict() for place, cost in costs.items()}


def _text(result: dict[str, Any]) -> str:
    if result.get("markdown"):
        return _page(result["recipes"])
    lines = []
    for row in result["recipes"]:
        spread = f" ({row['spread']})" if row["spread"] else ""
        lines.append(
            f"{row['name']:<32} {row['model']:<18} {row['duration']:>10}  batch "
            f"{row['batch_size']:>6,}  top-1 {_percent(row['top1'])}"
        )
        costs = [_cost(place, cost) for place, cost in row["predicted"].items() if cost]
        about = [f"published{spread}", row["hardware"], f"here: {row['here'] or 'not run'}"]
        lines.append(f"    {'; '.join(filter(None, about))}")
        lines += [f"    predicted: {', '.join(costs)}"] if costs else []
        lines.append(f"    {row['source']}")
    count = len(result["recipes"])
    lines.append(f"{count} recipe{'s' * (count > 1)}; python launch.py --config=NAME trains one")
    return "\n".join(lines)


def _cost(place: str, cost: dict[str, float]) -> str:
    """ "v5e-8 12.3 h at 21,700 images/s", with three digits each."""
    hours, speed = cost["hours"], cost["images_per_second"]
    digits = max(0, 2 - math.floor(math.log10(hours)))
    rounded = round(speed, 2 - math.floor(math.log10(speed)))
    return f"{place} {hours:.{digits}f} h at {rounded:,.0f} images/s".strip()


def _percent(top1: float | None) -> str:
    return "not stated" if top1 is None else f"{top1:.2f} %"


def _page(rows: list[dict[str, Any]]) -> str:
    head = [
        "name",
        "model",
        "length",
        "batch",
        "pixels",
        "published top-1",
        "here",
        *PLACES,
        "source",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        pixels = f"{row['train_size']} / {row['eval_size']}"
        top1 = _percent(row["top1"]) + (f", {row['spread']}" if row["spread"] else "")
        cells = (f"`{row['name']}`", f"`{row['model']}`", row["duration"], f"{row['batch_size']:,}")
        costs = [_cost("", cost) if cost else "" for cost in row["predicted"].values()]
        rest = (pixels, top1, row["here"] or "not run", *costs, row["source"])
        lines.append(f"| {' | '.join((*cells, *rest))} |")
    return "\n".join(lines)


RECIPES = Verb(
    "published recipes: what they are, and what they reached",
    _add_flags,
    _run,
    _text,
    needs_jax=False,
)

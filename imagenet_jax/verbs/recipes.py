"""`launch.py recipes`: what published recipes are, and what they reached."""

import argparse
import fnmatch
from typing import Any

import ml_collections

from imagenet_jax.config.files import load_recipes
from imagenet_jax.data.names import train_size
from imagenet_jax.errors import ConfigError, did_you_mean
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
            }
        )
    return {"recipes": rows, **({"markdown": True} if args.markdown else {})}


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
        about = [f"published{spread}", row["hardware"], f"here: {row['here'] or 'not run'}"]
        lines.append(f"    {'; '.join(filter(None, about))}")
        lines.append(f"    {row['source']}")
    count = len(result["recipes"])
    lines.append(f"{count} recipe{'s' * (count > 1)}; python launch.py --config=NAME trains one")
    return "\n".join(lines)


def _percent(top1: float | None) -> str:
    return "not stated" if top1 is None else f"{top1:.2f} %"


def _page(rows: list[dict[str, Any]]) -> str:
    head = ["name", "model", "length", "batch", "pixels", "published top-1", "here", "source"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        pixels = f"{row['train_size']} / {row['eval_size']}"
        top1 = _percent(row["top1"]) + (f", {row['spread']}" if row["spread"] else "")
        cells = (f"`{row['name']}`", f"`{row['model']}`", row["duration"], f"{row['batch_size']:,}")
        lines.append(
            f"| {' | '.join((*cells, pixels, top1, row['here'] or 'not run', row['source']))} |"
        )
    return "\n".join(lines)


RECIPES = Verb(
    "published recipes: what they are, and what they reached",
    _add_flags,
    _run,
    _text,
    needs_jax=False,
)

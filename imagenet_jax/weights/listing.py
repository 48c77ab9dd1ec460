"""The table of models with the weights that exist for each."""

import dataclasses
import fnmatch
from typing import Any

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import FACTS
from imagenet_jax.weights.pretrained import weights_of


def list_models(pattern: str = "") -> dict[str, Any]:
    """The facts of the models whose name matches.

    Args:
      pattern: part of a name, or a pattern with * and ?; "": all.

    Returns:
      {"models": [{name, params, ..., weights}, ...]}: the fields of `models.facts.Facts`, and
      weights, the names for `predict --model`, the default first.

    Raises:
      ConfigError: if none matches.
    """
    glob = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    names = [name for name in FACTS if fnmatch.fnmatch(name, glob)]
    if not names:
        raise ConfigError(f"--filter={pattern}: no model matches; try part of a name, e.g. resnet")
    return {"models": [{**dataclasses.asdict(FACTS[n]), "weights": weights_of(n)} for n in names]}


def models_text(result: dict[str, Any]) -> str:
    """A line for each model."""
    width = max(len(row["name"]) for row in result["models"])
    lines = [f"{'model':<{width}}  params      GMACs  pixels  top-1   weights (default first)"]
    for row in result["models"]:
        top1 = f"{row['top1']:6.2f}" if row["top1"] is not None else "     -"
        tags = ", ".join(name.partition(".")[2] for name in row["weights"]) or "-"
        lines.append(
            f"{row['name']:<{width}}  {row['params'] / 1e6:7.2f} M {row['gmacs']:8.4g}  "
            f"{row['image_size']:6}  {top1}  {tags}"
        )
    lines.append(f"{len(result['models'])} models; top-1 in percent, of whose weights: see --json")
    return "\n".join(lines)

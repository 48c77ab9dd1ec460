"""The table of models with the weights that exist for each."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import FACTS
from imagenet_jax.weights.networks import NETWORKS
from imagenet_jax.weights.pretrained import weights_of


def list_models(pattern: str = "") -> dict[str, Any]:
    """The facts of the models whose name matches.

    Args:
      pattern: part of a name, or a pattern with * and ?; "": all.

    Returns:
      {"models": [{name, params, ..., weights}, ...]}: the fields of `models.facts.Facts`, and
      weights, the names for `predict --model`, the default first. "networks" has the detectors and
      segmenters, with the fields of `networks.Network`.

    Raises:
      ConfigError: if none matches.
    """
    glob = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    names = [name for name in FACTS if fnmatch.fnmatch(name, glob)]
    networks = [one for name, one in NETWORKS.items() if fnmatch.fnmatch(name, glob)]
    if not names and not networks:
        raise ConfigError(f"--filter={pattern}: no model matches; try part of a name, e.g. resnet")
    models = [{**dataclasses.asdict(FACTS[n]), "weights": weights_of(n)} for n in names]
    return {"models": models, "networks": [dataclasses.asdict(one) for one in networks]}


def models_text(result: dict[str, Any]) -> str:
    """A line for each model, and for each network of another task."""
    tables = [_models_lines(result)] if result["models"] else []
    tables += [_networks_lines(result["networks"])] if result["networks"] else []
    return "\n\n".join("\n".join(lines) for lines in tables)


def _networks_lines(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len(row["name"]) for row in networks)
    lines = [f"{'for finetune.weights':<{width}}  params      GMACs  score  model.head, model.name"]
    for row in networks:
        lines.append(
            f"{row['name']:<{width}}  {row['params'] / 1e6:7.2f} M {row['gmacs']:8.4g}  "
            f"{row['score']:5.1f}  {row['head']}, {row['model']}"
        )
    lines.append("score: torchvision's AP of boxes, or mean IoU in percent, of their own weights")
    return lines


def _models_lines(result: Mapping[str, Any]) -> list[str]:
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
    return lines

"""The table of models: every name that a config can use, how to make it, and its facts.

The facts are in models.csv, one line per model; see `Facts`.
"""

import csv
import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import (
    alexnet,
    bit,
    convnext,
    densenet,
    efficientnet,
    googlenet,
    inception,
    lenet,
    mixer,
    mobilenet,
    nfnet,
    regnet,
    resnet,
    squeezenet,
    swin,
    vgg,
    vit,
)
from imagenet_jax.models.layers import Layers


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Attributes:
      name: in the table.
      params: parameters with 1000 classes, auxiliary heads included (LeNet, ResNet-8 and -20: 10).
      gmacs: 10^9 multiply-adds of the linear and convolutional layers and of attention, for one
        image of image_size, auxiliary heads excluded.
      image_size: height and width in pixels that the reference weights are evaluated at.
      top1: accuracy in percent on ImageNet's validation set, or None.
      source: the weights and the publication that top1 is of.
      reference: the torch implementation with the same parameters, "LIBRARY NAME", or "".
    """

    name: str
    params: int
    gmacs: float
    image_size: int
    top1: float | None
    source: str
    reference: str


def _read_facts() -> dict[str, Facts]:
    with (Path(__file__).parent / "models.csv").open(newline="") as file:
        return {
            row["name"]: Facts(
                row["name"],
                int(row["params"]),
                float(row["gmacs"]),
                int(row["image_size"]),
                float(row["top1"]) if row["top1"] else None,
                row["source"],
                row["reference"],
            )
            for row in csv.DictReader(file)
        }


FACTS = _read_facts()

_FAMILIES = (
    *(lenet, alexnet, vgg, googlenet, inception, resnet, bit, densenet, squeezenet, mobilenet),
    *(efficientnet, regnet, convnext, nfnet, vit, mixer, swin),
)


def _find(name: str) -> Callable[..., nn.Module]:
    return next(vars(family)[name] for family in _FAMILIES if name in vars(family))


MODELS: dict[str, Callable[..., nn.Module]] = {name: _find(name) for name in FACTS}


def create_model(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """A Linen module of the table, e.g. `create_model("resnet50", num_classes=1000)`.

    Args:
      name: a key of MODELS.
      num_classes: number of logits.
      **options: attributes of the module, e.g. stem, or of `layers.Layers`, e.g. dtype.

    Raises:
      ConfigError: for a name or an option that does not exist, with the nearest that does.
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}{_nearest(name, MODELS)}")
    known = model_options(name)
    layers = {}
    for option in list(options):
        if option in _LAYER_OPTIONS:
            layers[option] = options.pop(option)
        elif option not in known:
            listed = [*known, *_LAYER_OPTIONS]
            raise ConfigError(f"model {name} has no option {option!r}{_nearest(option, listed)}")
    return MODELS[name](num_classes=num_classes, layers=Layers(**layers), **options)


def model_options(name: str) -> dict[str, Any]:
    """{option: default} of a model of the table, without those of `layers.Layers`."""
    make = MODELS[name]
    module = make.func if isinstance(make, functools.partial) else make
    set_already = make.keywords if isinstance(make, functools.partial) else {}
    return {
        field.name: set_already.get(field.name, field.default)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name", "num_classes", "layers")
    }


_LAYER_OPTIONS = tuple(field.name for field in dataclasses.fields(Layers))


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"

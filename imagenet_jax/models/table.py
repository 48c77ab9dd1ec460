"""The table of models: how to make each that a config can name; `facts` has what is known."""

import importlib
from collections.abc import Callable
from typing import Any

from imagenet_jax.models.backbone import Backbone, Level, find_levels
from imagenet_jax.models.blocks import check_blocks
from imagenet_jax.models.facts import FACTS, LAYER_OPTIONS, Facts, check_model
from imagenet_jax.models.layers.layers import Layers


def _find(facts: Facts) -> Callable[..., Backbone]:
    return vars(importlib.import_module(f"imagenet_jax.models.{facts.family}"))[facts.name]


MODELS: dict[str, Callable[..., Backbone]] = {name: _find(facts) for name, facts in FACTS.items()}


def create_model(name: str, *, num_classes: int, **options: Any) -> Backbone:
    """A Linen module of the table, e.g. `create_model("resnet50", num_classes=1000)`.

    Args:
      name: a key of MODELS.
      num_classes: number of logits.
      **options: attributes of the module, e.g. stem, or of `layers.Layers`, e.g. dtype.

    Raises:
      ConfigError: for a name or an option that does not exist, with the nearest that does, or a
        block that the model cannot do without.
    """
    check_model(name, options)
    layers = {option: options.pop(option) for option in LAYER_OPTIONS if option in options}
    if without := layers.get("without_blocks"):
        whole = MODELS[name](num_classes=1, **options)
        check_blocks(name, whole, FACTS[name].image_size, without)
    return MODELS[name](num_classes=num_classes, layers=Layers(**layers), **options)


def levels(model: Backbone | str) -> tuple[Level, ...]:
    """The maps of a model, or of a name of the table, that make a pyramid; see `Level`.

    Raises:
      ConfigError: for a name that does not exist.
    """
    return find_levels(create_model(model, num_classes=1) if isinstance(model, str) else model)

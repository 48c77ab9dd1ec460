"""The table of models: every name that a config can use, and how to make it."""

import difflib
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import resnet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": resnet.resnet8,
    "resnet18": resnet.resnet18,
    "resnet20": resnet.resnet20,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnet152": resnet.resnet152,
}


def create_model(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """A Linen module of the table, e.g. `create_model("resnet50", num_classes=1000)`.

    Args:
      name: a key of MODELS.
      num_classes: number of logits.
      **options: attributes of the module, e.g. dtype or stem.

    Raises:
      ConfigError: for a name or an option that does not exist, with the nearest that does.
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}{_nearest(name, MODELS)}")
    make = MODELS[name]
    module = make.func if isinstance(make, functools.partial) else make
    known = [field for field in module.__dataclass_fields__ if field not in ("parent", "name")]
    for option in options:
        if option not in known:
            raise ConfigError(f"model {name} has no option {option!r}{_nearest(option, known)}")
    return make(num_classes=num_classes, **options)


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {listed}"

"""What a sweep varies: fields of the config and their values."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from imagenet_jax.config import apply_overrides, validate
from imagenet_jax.config.lists import split_list
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import check_model


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values of a field, as on the command line."""

    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """All numbers of a type from `low` to `high`, evenly, or with `log` in the logarithm."""

    low: float
    high: float
    log: bool


Space = dict[str, Choices | Range]
_NUMBER = r"[+-]?[\d_.]*?\d[\d_]*\.?(?:e[+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(\w*))?", re.IGNORECASE)


def parse_space(specs: Sequence[str], config: ml_collections.ConfigDict) -> Space:
    """The values that fields may take.

    Args:
      specs: FIELD=A,B,C for these values, FIELD=LOW..HIGH for all numbers between, evenly, or
        FIELD=LOW..HIGH:log, evenly in the logarithm. Commas within brackets or quotes are a
        value's own.
      config: of the runs; all values and ends of ranges are tried in it.

    Raises:
      ConfigError: for what is not of these forms, or a field or value that the config refuses.
    """
    space: Space = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not equals or not text:
            raise ConfigError(f"{spec!r}; expected FIELD=A,B,C or FIELD=LOW..HIGH[:log]")
        if name in space:
            raise ConfigError(f"{name} is given twice; write all its values as {name}=A,B,C")
        if _RANGE.fullmatch(text):
            space[name] = _range(name, text, config)
        else:
            try:
                values = tuple(split_list(text))
            except ValueError as error:
                raise ConfigError(f"{name}={error}") from error
            for value in values:
                check_model(with_fields(config, {name: value}).model.name)
            space[name] = Choices(values)
    return space


def grid(space: Space) -> list[dict[str, str]]:
    """All combinations. Raises ConfigError for a range, which has no end of values."""
    for name, values in space.items():
        if isinstance(values, Range):
            raise ConfigError(f"--grid {name}=LOW..HIGH; a grid is made of values, {name}=A,B,C")
    choices = [values.values for values in space.values()]
    return [
        dict(zip(space, combination, strict=True)) for combination in itertools.product(*choices)
    ]


def with_fields(
    config: ml_collections.ConfigDict, fields: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A copy with other values, checked. Raises ConfigError."""
    changed = ml_collections.ConfigDict(config.to_dict())
    apply_overrides(changed, {name: str(value) for name, value in fields.items()})
    validate(changed)
    return changed


def _range(name: str, text: str, config: ml_collections.ConfigDict) -> Range:
    low, high, scale = _RANGE.fullmatch(text).groups(default="")
    for end in (low, high):
        with_fields(config, {name: end})
    kind = type(SCHEMA[name].default)
    if kind not in (int, float) or scale not in ("", "log"):
        raise ConfigError(f"{name}={text}; ranges LOW..HIGH or LOW..HIGH:log are for numbers")
    if kind(low) >= kind(high) or (scale and kind(low) <= 0):
        raise ConfigError(f"{name}={text}; expected {'0 < ' if scale else ''}LOW < HIGH")
    return Range(kind(low), kind(high), log=bool(scale))

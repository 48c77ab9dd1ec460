"""Stages of a run: what changes on the way, as the size of the training images."""

from typing import NamedTuple

import ml_collections

from imagenet_jax.config.config import apply_overrides, validate
from imagenet_jax.config.durations import is_duration
from imagenet_jax.errors import ConfigError, did_you_mean

# Neither parameters nor the order of the data depend on them. Sections end with a dot.
CHANGEABLE = (
    *("accumulate", "loss.", "model.dropout", "model.drop_path", "model.uniform_drop_path"),
    *("data.train_size", "data.train_crop", "data.train_resize", "data.crop_area"),
    "data.crop_ratio",
    *("data.policy", "data.rotate", "data.translate", "augment."),
    *("data.jitter", "data.mosaic", "data.copy_paste"),
)
# Evaluation has the first two, too; the last are counted once.
_NOT = ("augment.mean", "augment.std", "loss.class_weights")


class Stage(NamedTuple):
    """A part of a run.

    Attributes:
      start: how long the run has lasted when it begins, see `durations`.
      config: of the run, with what this stage and those before it have changed.
      changes: what this one changes, "FIELD=VALUE FIELD=VALUE"; "" for the first.
    """

    start: str
    config: ml_collections.ConfigDict
    changes: str = ""


def config_stages(config: ml_collections.ConfigDict) -> list[Stage]:
    """The stages of a run; the first begins with it and has its config.

    Raises:
      ConfigError: for what is no stage, or changes what has to stay.
    """
    stages = [Stage("0 steps", config)]
    for text in config.stages:
        start, colon, changes = (part.strip() for part in text.partition(":"))
        if not (colon and is_duration(start) and changes):
            raise ConfigError(
                f"config.stages has {text!r}; expected 'START: FIELD=VALUE FIELD=VALUE', as in "
                "'16 epochs: data.train_size=192 data.policy_magnitude=9'"
            )
        changed = stages[-1].config.copy_and_resolve_references()
        apply_overrides(changed, _overrides(text, changes))
        validate(changed)
        stages.append(Stage(start, changed, changes))
    return stages


def _overrides(stage: str, changes: str) -> dict[str, str]:
    overrides: dict[str, str] = {}
    for change in changes.split():
        name, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"config.stages has {stage!r}: {change!r} is no FIELD=VALUE")
        if name in overrides:
            raise ConfigError(f"config.stages has {stage!r}: {name} stands there twice")
        fields = [field for field in CHANGEABLE if name == field or _is_below(name, field)]
        if not fields or name in _NOT:
            raise ConfigError(
                f"config.stages has {stage!r}: {name} has to stay as it is; what may change is "
                f"{', '.join(f'{f}*' if f[-1] == '.' else f for f in CHANGEABLE)}"
                f"{did_you_mean(name, CHANGEABLE)}"
            )
        overrides[name] = value
    return overrides


def _is_below(name: str, field: str) -> bool:
    """Whether it is in a section, or one of the fields of a policy."""
    return name.startswith(field if field[-1] == "." else f"{field}_")

"""What does not go with boxes."""

import ml_collections

from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.segmentation_checks import refused

_WHOLE = ("letterbox", "resize", "none")  # rules of evaluation that leave nothing out


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that change images and not their boxes, or mean nothing."""
    both = refused(config) | {
        "augment.erase": config.augment.erase > 0,
        "loss.class_weights": bool(config.loss.class_weights),
        "data.sampling = 'balanced'": config.data.sampling == "balanced",
    }
    unused = ("loss.label_smoothing", "loss.auxiliary")  # which have defaults that are not 0
    both |= {name: _is_asked_for(config, name) for name in unused}
    if found := [name for name, is_on in both.items() if is_on]:
        raise ConfigError(
            f"config.task = {config.task!r} does not go with config.{' and config.'.join(found)}"
        )
    if config.data.eval_crop not in _WHOLE:
        raise ConfigError(
            f"config.data.eval_crop = {config.data.eval_crop!r} leaves out a part of the image, "
            f"and with it objects; expected {', '.join(_WHOLE)}"
        )


def _is_asked_for(config: ml_collections.ConfigDict, name: str) -> bool:
    """Whether a number is neither 0 nor what it is unless it is set."""
    section, field = name.split(".")
    return config[section][field] not in (0, SCHEMA[name].default)

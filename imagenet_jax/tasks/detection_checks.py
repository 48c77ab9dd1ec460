"""What does not go with boxes."""

import ml_collections

from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.tasks.segmentation_checks import refused

_WHOLE = ("letterbox", "resize", "none")  # rules of evaluation that leave nothing out


def check(config: ml_collections.ConfigDict, choice: Choice) -> None:
    """Raises ConfigError for fields that change images and not their boxes, or mean nothing.

    Args:
      config: of the run.
      choice: which boxes are told.
    """
    _check_views(config, choice)
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


def _check_views(config: ml_collections.ConfigDict, choice: Choice) -> None:
    """Raises ConfigError for several views of an image where no box suppresses another."""
    several = config.eval.tta or len(config.eval.scales) > 1
    if several and choice.iou >= 1:
        raise ConfigError(
            "config.eval.tta and config.eval.scales look at an image several times, and "
            f"config.model.head = {config.model.head!r} has no suppression, so that each object "
            "would be told several times; set config.eval.nms_threshold, as 0.7"
        )


def _is_asked_for(config: ml_collections.ConfigDict, name: str) -> bool:
    """Whether a number is neither 0 nor what it is unless it is set."""
    section, field = name.split(".")
    return config[section][field] not in (0, SCHEMA[name].default)

"""Fields that are for some tasks alone."""

from collections.abc import Mapping
from typing import Any

from imagenet_jax.config.model_fields import OF_DETECTORS
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.errors import ConfigError

_OF_BOXES = ("detection", "instances", "multi_task")
_OF_PLACES = ("detection", "instances", "segmentation")


def check_task_fields(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for fields that are set and mean nothing to the task."""
    tasks = [text.partition(":")[0] for text in values["multi_task.tasks"]]
    tasks = tasks if values["task"] == "multi_task" else [values["task"]]
    if values["data.train_crop"] == "ssd_crop" and not {*tasks} & {*_OF_BOXES}:
        raise ConfigError(
            "config.data.train_crop = 'ssd_crop' goes by objects, which config.task = "
            f"{values['task']!r} does not read"
        )
    _check_landmarks(values)
    if values["data.mosaic"] and not {*tasks} <= {*_OF_PLACES}:
        raise ConfigError(
            f"config.data.mosaic = {values['data.mosaic']:g} moves things within images, which is "
            f"for {', '.join(_OF_PLACES)}, not config.task = {values['task']!r}"
        )
    if values["data.copy_paste"] and not ("instances" in tasks and {*tasks} <= {*_OF_PLACES}):
        raise ConfigError(
            f"config.data.copy_paste = {values['data.copy_paste']:g} needs the outlines of "
            f"objects, which config.task = 'instances' reads, not {values['task']!r}"
        )
    fields = [*(f"model.{name}" for name in OF_DETECTORS), "data.max_objects"]
    fields += [f"eval.{name}" for name in ("score_threshold", "nms_threshold", "candidates")]
    for name in (*fields, "eval.max_detections"):
        if values["task"] not in _OF_BOXES and values[name] != SCHEMA[name].default:
            raise ConfigError(
                f"config.{name} = {values[name]!r} is for config.task = {_OF_BOXES[0]!r} and the "
                f"like, not {values['task']!r}"
            )


def _check_landmarks(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for faces to be aligned without points, or points of nothing."""
    file = values["data.landmarks"]
    aligned = [name for name in ("train_crop", "eval_crop") if values[f"data.{name}"] == "align"]
    if aligned and values["task"] != "embedding":
        raise ConfigError(
            f"config.data.{aligned[0]} = 'align' is for config.task = 'embedding', not "
            f"{values['task']!r}"
        )
    if aligned and not file:
        raise ConfigError(
            f"config.data.{aligned[0]} = 'align' needs config.data.landmarks, which is ''; set it "
            "to a CSV file with five points of each face"
        )
    if file and not aligned:
        raise ConfigError(
            f"config.data.landmarks = {file!r} is for config.data.train_crop = 'align' or "
            "eval_crop = 'align'; set one of them, or landmarks to ''"
        )

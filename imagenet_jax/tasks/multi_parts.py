"""The tasks that `multi_task` can have, their names in a config, and what each tells."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.detection import Detection
from imagenet_jax.tasks.instances import Instances
from imagenet_jax.tasks.multilabel import Multilabel
from imagenet_jax.tasks.segmentation import Segmentation
from imagenet_jax.tasks.task import Meter, Task

KINDS: dict[str, type[Task]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "detection": Detection,
    "instances": Instances,
    "segmentation": Segmentation,
}


def below(name: str, values: Mapping[str, Any], mark: str = "/") -> dict[str, Any]:
    """What is of a task, without its name before it."""
    start = f"{name}{mark}"
    return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}


def task_heads(config: ml_collections.ConfigDict) -> dict[str, str]:
    """config.multi_task.tasks as {task: head}. Raises ConfigError."""
    heads = {}
    for text in config.multi_task.tasks:
        name, _, head = text.partition(":")
        if name not in KINDS or name in heads:
            raise ConfigError(
                f"config.multi_task.tasks has {text!r}; expected each of {', '.join(KINDS)} once "
                "at most, a head behind a colon, as 'detection:fcos'"
            )
        heads[name] = head
    if len(heads) < 2:
        raise ConfigError(
            f"config.multi_task.tasks = {tuple(config.multi_task.tasks)} names fewer than two "
            "tasks, as 'detection:fcos', 'segmentation:unet'"
        )
    weights = config.multi_task.weights
    if weights and len(weights) != len(heads):
        raise ConfigError(
            f"config.multi_task.weights has {len(weights)} numbers for {len(heads)} tasks"
        )
    return heads


def config_of(config: ml_collections.ConfigDict, name: str, head: str) -> ml_collections.ConfigDict:
    own = config.copy_and_resolve_references()
    own.task, own.model.head = name, head
    return own


def part_of(split: Split, name: str) -> Split:
    """The split as one of the tasks reads it."""
    return dataclasses.replace(split, source=split.encoded.parts[KINDS[name].reads])


class MultiMeter:
    """The meters of tasks, as one; see `task.Meter`."""

    def __init__(self, parts: Mapping[str, Meter]):
        self.parts = dict(parts)

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes what each task's own takes, its name before it, and index."""
        for name, meter in self.parts.items():
            meter.add({"index": observed["index"], **below(name, observed)})

    def metrics(self) -> dict[str, float | int]:
        """Those of all, their task's name before them."""
        return {
            f"{name}_{key}": value
            for name, meter in self.parts.items()
            for key, value in meter.metrics().items()
        }


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """See `Task.report_lines`."""
    return [line for name, own in report.items() for line in KINDS[name].report_lines(own)]


def answer_lines(answer: Mapping[str, Any]) -> list[str]:
    """See `Task.answer_lines`."""
    lines = []
    for name in filter(KINDS.__contains__, answer):
        lines += [f"{name}:", *(f"  {x}" for x in KINDS[name].answer_lines(answer[name]))]
    return lines


def answer_columns(answer: Mapping[str, Any]) -> dict[str, str]:
    """See `Task.answer_columns`."""
    return {
        f"{name} {key}": value
        for name in filter(KINDS.__contains__, answer)
        for key, value in KINDS[name].answer_columns(answer[name]).items()
    }


def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
    """See `Task.draw`."""
    names = [name for name in answer if name in KINDS]
    parts = figure.subfigures(1, len(names), squeeze=False).flat
    for name, part in zip(names, parts, strict=True):
        KINDS[name].draw(part, picture, answer[name])


def rows(result: Mapping[str, Any]) -> dict[str, str]:
    """See `Task.rows`."""
    found = {"score": f"{result['score']:.2%}, the mean over the tasks"}
    for name, kind in KINDS.items():
        if own := below(name, result, "_"):
            found |= {f"{name}: {key}": value for key, value in kind.rows(own).items()}
    return found

"""The tasks by their names in a config: each is a file beside this one that says TASK = its class.

The names are known without JAX, which takes a second to import.
"""

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections

from imagenet_jax.data.landmarks import read_landmarks
from imagenet_jax.data.sources.labelled import read_names
from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.tasks.embedding_checks import OPEN_SET, check_embedding, check_per_class
from imagenet_jax.tasks.group_files import read_groups
from imagenet_jax.tasks.mae_checks import check_mae
from imagenet_jax.tasks.pair_files import read_pairs
from imagenet_jax.tasks.self_supervised_checks import check_views
from imagenet_jax.tasks.semi_supervised_checks import check_labelled

if TYPE_CHECKING:  # it imports JAX
    from imagenet_jax.data import Split
    from imagenet_jax.tasks.task import Task

LEARN_FROM_AVERAGE = ("byol", "dino", "mean_teacher", "moco_v3")  # see `Task.losses_beside`


@functools.cache
def task_names() -> tuple[str, ...]:
    """All that config.task can be."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple(file.stem for file in files if "\nTASK = " in file.read_text(encoding="utf-8"))


def check_task(name: str) -> None:
    """Raises ConfigError if there is no task of this name."""
    if name not in task_names():
        raise ConfigError(
            f"config.task = {name!r} does not exist; expected {', '.join(task_names())}"
            + did_you_mean(name, task_names())
        )


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that do not go with config.task, as far as JAX is not needed
    to know; the rest its class refuses."""
    check_per_class(config)
    check_views(config)
    check_labelled(config)
    if config.task in OPEN_SET:
        check_embedding(config)
    if config.task == "mae":
        check_mae(config)


def check_lists(config: ml_collections.ConfigDict) -> None:
    """Raises DataError for a file that config.task reads beside the data set and cannot."""
    if config.task in OPEN_SET and config.embedding.pairs:
        read_pairs(config.embedding.pairs)
    if config.task in OPEN_SET and config.embedding.groups:
        read_groups(config.embedding.groups, config.embedding.group_column)
    if config.data.landmarks:
        read_landmarks(config.data.landmarks)
    if config.data.labelled_list:
        read_names(config.data.labelled_list)


def find_task(name: str) -> "type[Task]":
    """The class of a task. Raises ConfigError if there is none."""
    check_task(name)
    return importlib.import_module(f"imagenet_jax.tasks.{name}").TASK


def task_split(config: ml_collections.ConfigDict, train: bool) -> "Split":
    """The training or the evaluation split, with what config.task reads; see `data.open_split`."""
    from imagenet_jax.data import open_split

    return open_split(config, train, find_task(config.task).reads_of(config))


def make_task(config: ml_collections.ConfigDict, split: Any = None) -> "Task":
    """The task of a config, on the data of a `data.Split` or on described ones."""
    task = find_task(config.task)
    return task.of_split(config, split) if split else task.described(config)

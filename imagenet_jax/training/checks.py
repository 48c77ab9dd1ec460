"""What is wrong with a config, as far as it shows without JAX, devices and data.

JAX takes a second to import, and a mistake in a name should not cost that much.
"""

import os
from pathlib import Path

import ml_collections

from imagenet_jax.config import model_options, validate
from imagenet_jax.data.names import check_data, check_files
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import FACTS, check_model
from imagenet_jax.reports.tracking import make_tracking
from imagenet_jax.reports.workdir import checkpoints_of
from imagenet_jax.tasks.table import check_task
from imagenet_jax.weights.pretrained import FILE_SUFFIXES, check_file, pretrained_start


def check_fields(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a field, value, task, model or option that does not exist."""
    validate(config)
    check_task(config.task)
    check_model(config.model.name, model_options(config))
    check_lora(config)


def check_lora(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for LoRA of a model that has no attention."""
    if config.finetune.mode == "lora" and not FACTS[config.model.name].has_attention:
        raise ConfigError(
            "config.finetune.mode = 'lora' is for transformers, and config.model.name = "
            f"{config.model.name!r} has no attention"
        )


def check_source(config: ml_collections.ConfigDict, *, here: bool) -> None:
    """Finds data that cannot be opened.

    Args:
      config: of the run.
      here: whether it runs on this machine, so that its files must be here.

    Raises:
      ConfigError: for a name of no known form, or fields that contradict each other.
      DataError: if a folder, an archive or a list is missing.
    """
    check_data(config.data)
    if here:
        check_files(config.data.name)


def check_training(config: ml_collections.ConfigDict, *, here: bool) -> None:
    """Finds what training would refuse before its first step; arguments as of `check_source`.

    Raises:
      ConfigError: as `check_source`, for weights to start from that are not known, or for a
        tracking service whose package is not installed.
      WeightsError, CheckpointError: if the file or the run to start from is missing.
    """
    check_source(config, here=here)
    if here:
        make_tracking(config)
        _check_start(config.finetune.weights, config.model.name)


def _check_start(weights: str, model: str) -> None:
    """What `finetune.starting_variables` needs."""
    path = Path(os.path.expanduser(weights))
    if weights and path.is_dir():
        checkpoints_of(path)
    elif path.suffix in FILE_SUFFIXES:
        check_file(path)
    elif weights:
        pretrained_start(weights, model)

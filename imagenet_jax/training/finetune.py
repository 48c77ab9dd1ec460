"""Where a run starts from: pretrained weights, a file, or another run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.errors import WeightsError
from imagenet_jax.training.program import Program
from imagenet_jax.training.trained import trained_model
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.load import load_file, load_pretrained
from imagenet_jax.weights.pretrained import FILE_SUFFIXES, pretrained_start

_IMAGENET = {"class_names": list(SYNSETS)}  # the facts of tasks on ImageNet's classes


def starting_variables(program: Program) -> dict[str, Any] | None:
    """The variables that config.finetune.weights names; None if it is "".

    The head is taken over where the facts of the task are the same, as the classes, and is new
    otherwise.

    Raises:
      ConfigError: for weights of another architecture, or names that do not exist.
      WeightsError, CheckpointError: if they cannot be fetched or read, or do not fit.
    """
    config = program.config
    name, model_name = config.finetune.weights, config.model.name
    if not name:
        return None
    if Path(name).is_dir():
        source = trained_model(Path(name), "best")
        variables, facts = jax.device_get(source.variables), source.task.facts()
    elif Path(name).suffix in FILE_SUFFIXES:
        found, variables = load_file(Path(name), model_name)
        facts = _IMAGENET if found.num_classes == len(SYNSETS) else {}
    else:
        weights = pretrained_start(name, model_name)
        if not np.allclose((weights.mean, weights.std), (config.augment.mean, config.augment.std)):
            logging.warning(
                "config.augment.mean and std are not those of %s, %s and %s: expect worse results",
                *(weights.name, weights.mean, weights.std),
            )
        _, variables = load_pretrained(weights)
        facts = _IMAGENET
    try:
        new_head = facts != program.task.facts()
        return adapt(variables, program.model, config.data.image_size, new_head=new_head)
    except WeightsError as error:
        raise WeightsError(f"config.finetune.weights = {name!r}: {error}") from error

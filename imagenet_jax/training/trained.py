"""A model that was trained: by a run, read back from its working directory, or by others."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import ml_collections
from absl import logging

from imagenet_jax.config import from_dict
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import CheckpointError, WeightsError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.reports.workdir import checkpoints_of
from imagenet_jax.tasks.table import find_task
from imagenet_jax.tasks.task import Task
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.program import make_program
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.pretrained import Pretrained
from imagenet_jax.weights.torch_layout import import_arrays


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model and its variables.

    Attributes:
      name: of the weights; or the working directory and the step.
      model: a Linen module.
      variables: its params and batch_stats; of a run as config.eval.weights says, LoRA merged.
      task: what it has learnt; task.config says how images get to the model.
      weights: what is known of named weights.
    """

    name: str
    model: nn.Module
    variables: dict[str, Any]
    task: Task
    weights: Pretrained | None = None

    @property
    def config(self) -> ml_collections.ConfigDict:
        return self.task.config


def needs_statistics(record: Mapping[str, Any], config: ml_collections.ConfigDict) -> bool:
    """Whether the averaged statistics in a checkpoint are not those of config.eval.norm_batches."""
    if not config.eval.norm_batches or config.eval.weights == "raw":
        return False
    batches = record["config"]["eval"].get("norm_batches", 0)
    estimated = record.get("statistics_of") == record["position"]["step"]
    return not (estimated and batches == config.eval.norm_batches)


def trained_model(
    workdir: Path, which: str, config: ml_collections.ConfigDict | None = None
) -> TrainedModel:
    """Reads a checkpoint of a run.

    Args:
      workdir: of the run.
      which: "latest", "best" or a step number.
      config: None: that of the checkpoint, but for the sharding: each device holds all of it.

    Raises:
      CheckpointError: if there is no such checkpoint.
    """
    checkpoints = Checkpoints(checkpoints_of(workdir), keep=1, read_only=True)
    record = checkpoints.record(which)
    if record is None:
        raise CheckpointError(f"no checkpoints in {workdir / 'checkpoints'}; train first")
    if config is None:
        config = from_dict(record["config"])
        config.sharding = "data_parallel"  # that of the run may not fit these devices
    task = find_task(config.task).of_facts(config, record["data"])
    program = make_program(task, make_mesh(config.sharding))
    state, record = checkpoints.restore(program.state_shapes(), which=which)
    variables = state.eval_variables(config.eval.weights)
    if needs_statistics(record, config):
        asked = record["config"]["eval"].get("norm_batches", 0)
        if asked and record.get("statistics_of") is None:
            raise CheckpointError(
                f"{workdir}, step {record['position']['step']}: the statistics of BatchNorm were "
                "never estimated for the average, as the run ended before its first evaluation; "
                "`average` writes a file with them"
            )
        logging.warning(
            "%s, step %d: the statistics of BatchNorm are not those that config.eval.norm_batches "
            "= %d asks for; `evaluate` and `average` estimate them",
            *(workdir, record["position"]["step"], config.eval.norm_batches),
        )
    variables = {**variables, "params": program.tuning.merge_lora(variables["params"])}
    name = f"{workdir}, step {record['position']['step']}"
    return TrainedModel(name, program.model, variables, task)


def trained_from_file(workdir: Path, file: Path, config: ml_collections.ConfigDict) -> TrainedModel:
    """The model of a run with the weights of a file, as of `launch.py average`.

    Args:
      workdir: of the run.
      file: see `weights.files.read_weights`.
      config: of the run.

    Raises:
      CheckpointError: if there is no checkpoint, which knows the classes.
      WeightsError: if the file cannot be read, does not fit the model, or names other classes.
    """
    record = Checkpoints(checkpoints_of(workdir), keep=1, read_only=True).record()
    if record is None:
        raise CheckpointError(f"no checkpoints in {workdir / 'checkpoints'}; train first")
    config = config.copy_and_resolve_references()
    config.finetune.mode = "full"  # in a file, LoRA is merged
    task = find_task(config.task).of_facts(config, record["data"])
    model = task.model()
    try:
        shapes = variable_shapes(model, config.data.image_size)
        found = read_weights(file)
        if found.class_names and found.class_names != getattr(task, "class_names", ()):
            raise WeightsError("its outputs are other classes than the run's, or in another order")
        variables = import_arrays(shapes, found.arrays)
    except WeightsError as error:
        raise WeightsError(f"{file}, with the model of {workdir}: {error}") from error
    return TrainedModel(str(file), model, variables, task)

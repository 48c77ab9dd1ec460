"""The network of which another one learns, config.distill: what it is, and what it says."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from imagenet_jax.augment.color import normalized_again
from imagenet_jax.augment.geometry import lines_kept
from imagenet_jax.config import base_config
from imagenet_jax.config.stages import config_stages
from imagenet_jax.data.names import train_size
from imagenet_jax.devices import sharding
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.reports.workdir import checkpoints_of, saved_config
from imagenet_jax.tasks.task import Task
from imagenet_jax.weights.pretrained import FILE_SUFFIXES, find_pretrained, pretrained_config

_variable_shapes = functools.lru_cache(maxsize=8)(variable_shapes)  # each takes a second


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A frozen network, in evaluation mode. Static, like a model: no arrays.

    Attributes:
      name: config.distill.weights.
      model: with the outputs of the run's task.
      mean, std: that its images are normalised by, see config.augment.
      image_size: height and width in pixels that its parameters are for.
      resizes: whether images are resized to that.
    """

    name: str
    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    resizes: bool

    def outputs(
        self, variables: Any, inputs: jax.Array, augment: ml_collections.ConfigDict
    ) -> jax.Array:
        """What it makes of the images float32 [B, H, W, 3] that the other network is given.

        Args:
          variables: its params and batch_stats.
          inputs: normalised by `augment`, config.augment of the run; maybe mixed.
        """
        inputs = normalized_again(inputs, augment.mean, augment.std, self.mean, self.std)
        if self.resizes and inputs.shape[1:3] != (self.image_size, self.image_size):
            shape = (len(inputs), self.image_size, self.image_size, inputs.shape[3])
            inputs = jax.image.resize(inputs, shape, "bilinear", antialias=True)
        return self.model.apply(variables, inputs, train=False)

    def shapes(self, mesh: Mesh) -> Any:
        """Shapes, dtypes and shardings of its variables: spread as the run's own parameters."""
        shapes = _variable_shapes(self.model, self.image_size)
        shapes = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
        return sharding.shard_shapes(shapes, mesh)

    def blank(self, mesh: Mesh) -> Any:
        """Variables that are all zero, to time a step with."""
        shapes = self.shapes(mesh)
        zeros = jax.tree.map(lambda leaf: np.broadcast_to(leaf.dtype.type(0), leaf.shape), shapes)
        return sharding.place(zeros, shapes)


def make_teacher(task: Task) -> Teacher | None:
    """The teacher of a run, of which no weights are read; None without one.

    Raises:
      ConfigError: for weights that are not known, of another task, without the name of their
        model, or of a model for images of one size where the run has several.
      CheckpointError: if its working directory holds no run.
    """
    config = task.config
    if not config.distill.weights:
        return None
    own = teacher_config(config)
    own.model.dtype = config.model.dtype
    model = dataclasses.replace(task, config=own).model()
    size = config.distill.image_size
    if not size:
        sizes = {
            lines_kept(train_size(stage.config.data), stage.config.augment.colout)
            for stage in config_stages(config)
        }
        params = [jax.tree.map(jnp.shape, _variable_shapes(model, s)["params"]) for s in sizes]
        if any(other != params[0] for other in params):
            raise ConfigError(
                f"config.distill.weights = {config.distill.weights!r}: {own.model.name} is for "
                f"images of one size, and this run has {', '.join(map(str, sorted(sizes)))} pixels "
                "(config.stages, augment.colout); set config.distill.image_size to one of them"
            )
        size = max(sizes)
    normalization = (tuple(own.augment.mean), tuple(own.augment.std))
    resizes = bool(config.distill.image_size)
    return Teacher(config.distill.weights, model, *normalization, size, resizes)


def teacher_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The teacher's own: its network, and how its images are normalised; see `make_teacher`."""
    name, model = config.distill.weights, config.distill.model
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        checkpoints_of(path)
        own = saved_config(path)
        if own is None or own.task != config.task:
            raise ConfigError(
                f"config.distill.weights = {name!r} holds "
                + (f"a run of the task {own.task!r}" if own else "no config.json of a run")
                + f"; expected one of config.task = {config.task!r}"
            )
    elif path.suffix in FILE_SUFFIXES:
        if not model:
            raise ConfigError(
                f"config.distill.weights = {name!r} is a file, which does not say of what model; "
                "set config.distill.model to a name of `launch.py models`"
            )
        own = base_config()  # a file says nothing of its normalisation: that of the run
        own.model.name, own.augment = model, config.augment.copy_and_resolve_references()
    else:
        own = pretrained_config(find_pretrained(name).name)
    if model not in ("", own.model.name):
        raise ConfigError(
            f"config.distill.model = {model!r}, and config.distill.weights = {name!r} are of "
            f"{own.model.name}"
        )
    return own

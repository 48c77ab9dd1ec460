"""BatchNorm's statistics for given weights: the exact mean over batches of training images.

As torch.optim.swa_utils.update_bn does for averaged weights (Izmailov et al. 2018,
https://arxiv.org/abs/1803.05407).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.devices import sharding
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.hosts.preemption import StopRequested, StopRequests
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.tasks.task import Batch, Task
from imagenet_jax.terminal import working
from imagenet_jax.training.feed import Feed
from imagenet_jax.training.program import Program
from imagenet_jax.training.stages import program_at
from imagenet_jax.training.step import apply_in_training, micro_batches
from imagenet_jax.training.tuning import Tuning

# Of the statistics before: nothing in float32. 0 is the model's own in config.model.bn_momentum.
_KEPT = 1e-30


class BatchStatistics:
    """Estimates from config.eval.norm_batches batches: those of the first steps of a run."""

    def __init__(self, program: Program, split: Split):
        """Of a run, and its training split."""
        self._program, self._split = program, split
        self._compiled: dict[str, tuple[Program, Any]] = {}

    def estimated(
        self, variables: dict[str, Any], step: int, stop: StopRequests | None = None
    ) -> dict[str, Any]:
        """The variables with statistics for their parameters.

        Args:
          variables: params and batch_stats on the devices, as `TrainState.eval_variables` has them.
          step: images are augmented as in this one, where there are stages.
          stop: whether to stop before the end.

        Raises:
          StopRequested: between two batches, if `stop` says so.
        """
        stop = stop or StopRequests()
        program, statistics_step = self._of_stage(program_at(self._program, step))
        rows = local_rows(program.mesh, program.config.batch_size)
        count, total = program.config.eval.norm_batches, None
        batches = self._split.at(program.config).train_batches(rows, 0, count)
        with (
            Feed(batches, program.mesh, check_wait=stop.check_wait) as feed,
            working("estimating the statistics of BatchNorm", stays=False),
        ):
            for number in range(count):
                batch = feed.next()
                if stop.reached():
                    raise StopRequested
                doing(f"statistics of BatchNorm, batch {number + 1}")
                place = sharding.replicated(program.mesh)
                first = {**variables, "step": _replicated(np.int32(number), place)}
                found = jax.device_get(statistics_step(first, batch))
                found = jax.tree.map(np.float64, found)
                total = found if total is None else jax.tree.map(np.add, total, found)
        mean = jax.tree.map(lambda array: np.float32(array / count), total)
        shapes = program.state_shapes().eval_variables()["batch_stats"]
        return {**variables, "batch_stats": sharding.place(mean, shapes)}

    def _of_stage(self, program: Program) -> tuple[Program, Any]:
        """The program with BatchNorms that forget, and its compiled `statistics_step`."""
        key = program.config.to_json()
        if key not in self._compiled:
            doing("compiling", limited=False)
            config = program.config.copy_and_resolve_references()
            config.model.bn_momentum = _KEPT
            task = dataclasses.replace(program.task, config=config)
            model = task.model(sharding.batch_shards(program.mesh))
            forgetting = dataclasses.replace(program, task=task, model=model)
            self._compiled[key] = program, forgetting.compile_statistics_step(statistics_step)
        return self._compiled[key]


def config_for_statistics(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A config without what only the loss needs: the teacher, and the weights of classes."""
    config = config.copy_and_resolve_references()
    config.distill.update(weights="", model="", image_size=0)
    config.loss.class_weights = ()
    return config


def statistics_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    task: Task,
    model: nn.Module,
    tuning: Tuning,
    gather: Callable[[Any], Any],
    axis_name: str | None = None,
) -> Any:
    """The statistics of BatchNorm on a batch, the mean over its micro-batches.

    Args:
      variables: params; batch_stats, of which the shapes count; step, of which the batch is, int32.
      batch, task, model, tuning, gather, axis_name: as of `step.train_step`; the model's BatchNorms
        keep nothing of the statistics before.
    """
    rng = jax.random.split(jax.random.key(task.config.seed))[1]
    key = jax.random.fold_in(rng, variables["step"])
    params = tuning.merge_lora(gather(variables["params"]))
    zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    apply = partial(apply_in_training, model, {"params": params, "batch_stats": zeros})

    def of_part(part: Batch, key: jax.Array) -> Any:
        inputs, targets = task.inputs(part, rng, variables["step"], train=True)
        return task.losses(partial(apply, key, tuning), inputs, targets).updated["batch_stats"]

    count = task.config.accumulate
    if count == 1:
        found = of_part(batch, key)
    else:
        parts = micro_batches(batch, count, task.rows_together), jax.random.split(key, count)
        found = jax.lax.map(lambda part: of_part(*part), parts)
        found = jax.tree.map(lambda array: array.mean(0), found)
    if axis_name:
        found = jax.lax.pmean(found, axis_name)
    return found


def _replicated(number: np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
    shape = jax.ShapeDtypeStruct(number.shape, number.dtype, sharding=place)
    return sharding.place(np.asarray(number), shape)

"""The stages of a run as compiled programs: one for each, over the same state."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from absl import logging

from imagenet_jax.config.stages import config_stages
from imagenet_jax.data import Split
from imagenet_jax.devices.parallel import local_rows
from imagenet_jax.devices.sharding import batch_shards
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.program import Program


class Stage(NamedTuple):
    """Steps that share a program.

    Attributes:
      start, stop: the steps start <= step < stop, from 0 on.
      program: of the run, with the config that it has here.
      changes: what of it is another than before, "FIELD=VALUE ..."; "" for nothing.
    """

    start: int
    stop: int
    program: Program
    changes: str


def make_stages(program: Program, step: int = 0) -> list[Stage]:
    """The stages of a run that end after `step`.

    Args:
      program: of the run.
      step: updates done.

    Raises:
      ConfigError: if the stages are in another order than they begin.
    """
    course, total = program.course, program.total_steps
    named = config_stages(program.config)
    starts = [course.steps(stage.start, program.num_examples, total) for stage in named]
    starts = [max(start, 0) for start in starts]
    if starts != sorted(starts):
        raise ConfigError(
            f"config.stages = {tuple(program.config.stages)!r} begin at the steps {starts[1:]}; "
            "write them in the order in which they begin"
        )
    for start, stage in zip(starts, named, strict=True):
        if start >= total > 0:
            logging.warning(
                "config.stages: %r does not begin within config.duration = %r",
                *(f"{stage.start}: {stage.changes}", program.config.duration),
            )
    stages = []
    for start, stop, stage in zip(starts, [*starts[1:], total], named, strict=True):
        if max(start, step) < min(stop, total):
            own = _of_stage(program, stage.config) if stage.changes else program
            stages.append(Stage(start, min(stop, total), own, stage.changes))
    return stages


def program_at(program: Program, step: int) -> Program:
    """That of the stage in which a step was done, the number of the first being 1."""
    stages = make_stages(program, max(step - 1, 0))
    return stages[0].program if stages else program


def _of_stage(program: Program, config: ml_collections.ConfigDict) -> Program:
    task = dataclasses.replace(program.task, config=config)
    return dataclasses.replace(program, task=task, model=task.model(batch_shards(program.mesh)))


def stage_batches(
    stages: Sequence[Stage], split: Split, step: int, stop: int
) -> Iterator[dict[str, np.ndarray]]:
    """The rows of this process of the batches of the steps from `step` on to `stop`.

    The first stage is opened here, each of the others when the one before it is over.
    """

    def opened(stage: Stage) -> Iterator[dict[str, np.ndarray]]:
        program = stage.program
        rows = local_rows(program.mesh, program.config.batch_size)
        steps = max(stage.start, step), min(stage.stop, stop)
        own = split.at(program.config)
        return own.train_batches(rows, *steps, *program.course.order_offsets)

    wanted = [stage for stage in stages if max(stage.start, step) < min(stage.stop, stop)]
    first = [opened(stage) for stage in wanted[:1]]
    return itertools.chain(*first, itertools.chain.from_iterable(map(opened, wanted[1:])))


def steps_of_stages(
    stages: Sequence[Stage], compiled: Sequence[jax.stages.Compiled], step: int
) -> Iterator[tuple[int, jax.stages.Compiled]]:
    """The numbers of the steps after `step`, from 1 on, each with its program."""
    for stage, train_step in zip(stages, compiled, strict=True):
        for done in range(max(stage.start, step), stage.stop):
            yield done + 1, train_step

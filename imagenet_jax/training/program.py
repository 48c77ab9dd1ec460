"""From a config to the compiled programs that training, evaluation and studies share."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh

from imagenet_jax.data.names import train_size, train_views
from imagenet_jax.data.order import even_batch
from imagenet_jax.devices import parallel, sharding
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.layers.quantized import check_skip
from imagenet_jax.tasks.task import Task
from imagenet_jax.terminal import working
from imagenet_jax.training.averages import has_average
from imagenet_jax.training.initial import Traced, agreed, initial_values, trace
from imagenet_jax.training.optim import make_optimizer
from imagenet_jax.training.position import Course, course_of
from imagenet_jax.training.pruning import check_prunable, prune_while_training, prunes
from imagenet_jax.training.rules import (
    NO_LAYERS,
    Layers,
    Path,
    check_rules,
    frozen_by_rule,
    needs_layers,
)
from imagenet_jax.training.schedules import Schedule, make_schedule
from imagenet_jax.training.state import TrainState, init_state, init_variables, replaced
from imagenet_jax.training.step import eval_step, train_step
from imagenet_jax.training.teacher import Teacher, make_teacher
from imagenet_jax.training.tuning import Tuning, decay_by_layer, find_layers, make_tuning


@dataclasses.dataclass(frozen=True)
class Program:
    """What a config means for a data set of known size on the devices of a mesh."""

    task: Task
    mesh: Mesh
    model: nn.Module
    optimizer: optax.GradientTransformation
    tuning: Tuning
    learning_rate: Schedule
    num_examples: int
    total_steps: int
    course: Course
    platform: str | None = None
    teacher: Teacher | None = None

    @property
    def config(self) -> ml_collections.ConfigDict:
        return self.task.config

    def interval(self, duration: str) -> int:
        """Something periodic in steps, one at least; 0 for "", which is never."""
        steps = self.course.interval(duration, self.num_examples, self.total_steps)
        return max(steps, 1) if duration else 0

    def eval_batch_size(self, num_examples: int) -> int:
        """The batch in which a split of `num_examples` is evaluated, see `order.even_batch`."""
        shards = sharding.batch_shards(self.mesh)
        return even_batch(num_examples, self.config.eval.batch_size, shards)

    def init_state(self, start: dict[str, Any] | None = None) -> TrainState:
        """A fresh state on the devices, with the variables `start` where it has any."""
        key = jax.random.key(self.config.seed)
        size = self.config.data.image_size
        variables = initial_values(traced_variables(self.model, size), key)
        variables = replaced(variables, start or {})
        values = initial_values(self._traced_state, key, variables)
        return sharding.place(agreed(values), self.state_shapes())

    def state_shapes(self) -> TrainState:
        """Shapes, dtypes and shardings of the state, without computing it."""
        return self._shapes

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """The global batch on the devices, from the rows of this process."""
        return parallel.put_batch(batch, self.mesh)

    def compile_train_step(self) -> jax.stages.Compiled:
        """`step.train_step` for the global batch: (state, batch) -> (state, sums); the state is
        donated. With a teacher, whose variables stay, (state, batch, variables)."""
        step = partial(
            train_step,
            task=self.task,
            model=self.model,
            optimizer=self.optimizer,
            teacher=self.teacher,
            tuning=self.tuning,
            gather=self._gather,
            average_start=self._average_start(),
            average_course=self._course(),
        )
        size, batch_size = train_size(self.config.data), self.config.batch_size
        fixed = (self.teacher.shapes(self.mesh),) if self.teacher else ()
        with working("compiling the train step"):
            return self._compile(
                *(step, self.state_shapes(), batch_size, size, *fixed),
                donate=True,
                height=train_views(self.config.data)[0],
            )

    def compile_statistics_step(self, step: Callable[..., Any]) -> jax.stages.Compiled:
        """`batch_statistics.statistics_step` for the global batch: ({params, batch_stats, step},
        batch) -> batch_stats."""
        step = partial(
            step, task=self.task, model=self.model, tuning=self.tuning, gather=self._gather
        )
        number = jax.ShapeDtypeStruct((), np.int32, sharding=sharding.replicated(self.mesh))
        first = {**self.state_shapes().eval_variables(), "step": number}
        size, batch_size = train_size(self.config.data), self.config.batch_size
        height = train_views(self.config.data)[0]
        return self._compile(step, first, batch_size, size, donate=False, height=height)

    def compile_eval_step(self, num_examples: int) -> jax.stages.Compiled:
        """`step.eval_step` for the batches of a split of `num_examples`: (variables, batch) ->
        (sums, observed)."""
        step = partial(
            eval_step,
            task=self.task,
            model=self.model,
            tuning=self.tuning,
            gather=self._gather,
        )
        variables = self.state_shapes().eval_variables()
        size, batch_size = self.config.data.image_size, self.eval_batch_size(num_examples)
        with working("compiling the evaluation step"):
            return self._compile(step, variables, batch_size, size, donate=False)

    def _average_start(self) -> int:
        duration = self.config.swa_start or self.config.ema_start
        if not duration:
            return 0
        return max(self.course.steps(duration, self.num_examples, self.total_steps), 0)

    def _course(self) -> tuple[float, float]:
        before = self.course.shift
        return before, max(self.total_steps + before, 1)

    def _gather(self, params: Any) -> Any:
        return sharding.gather_params(params, self.mesh)

    # Cached, as tracing a model takes seconds and many ask for the shapes.
    @functools.cached_property
    def _shapes(self) -> TrainState:
        return sharding.shard_shapes(self._traced_state[1], self.mesh)

    @functools.cached_property
    def _traced_state(self) -> Traced:
        _, variables = traced_variables(self.model, self.config.data.image_size)
        init = partial(
            init_state,
            optimizer=self.optimizer,
            ema=has_average(self.config),
            tuning=self.tuning,
        )
        return trace(init, jax.random.key(0), variables)

    def _compile(
        self,
        step: Callable[..., Any],
        first: Any,
        batch_size: int,
        size: int,
        *fixed: Any,
        donate: bool,
        height: int = 0,
    ) -> jax.stages.Compiled:
        return parallel.compile_step(
            step,
            first,
            parallel.batch_shapes(batch_size, size, self.task.fields(), height),
            *fixed,
            mesh=self.mesh,
            partitioner=self.config.partitioner,
            donate=donate,
            platform=self.platform,
            options=self.config.compiler_options,
        )


@functools.lru_cache(maxsize=8)
def traced_variables(model: nn.Module, image_size: int) -> Traced:
    """`state.init_variables` of a model, traced: its program, and the shapes and dtypes."""
    init = partial(init_variables, model=model, image_size=image_size)
    return trace(init, jax.random.key(0))


def _ruled(config: ml_collections.ConfigDict, model: nn.Module) -> tuple[Layers, frozenset[Path]]:
    """The layers that config.optim and prune know of a model, and the parameters that are frozen.

    Raises:
      ConfigError: for a rule that no parameter follows, or rules that leave nothing to train, or
        nothing to prune; for a kernel that is not to be rounded and is not there.
    """
    size, layers, frozen = config.data.image_size, NO_LAYERS, frozenset()
    skip = tuple(config.model.quantize_skip)
    if needs_layers(config):
        layers = find_layers(model, size)
    if not config.optim.rules and not prunes(config) and not skip:
        return layers, frozen
    params = traced_variables(model, size)[1]["params"]
    tuning = make_tuning(config, model)
    params = jax.eval_shape(tuning.add_lora, params, jax.random.key(0))
    check_skip(skip, params, config.model.name)
    if prunes(config):
        check_prunable(config, params, layers, config.model.name)
    if not config.optim.rules:
        return layers, frozen
    check_rules(config.optim, params, layers, config.model.name)
    return layers, frozen_by_rule(config.optim, params, layers)


def _warn_of_average(
    config: ml_collections.ConfigDict, course: Course, num_examples: int, total_steps: int
) -> None:
    """Says so of averages that never begin, as in a short trial of a long recipe."""
    if not has_average(config):
        return
    name = "swa_start" if config.swa_start else "ema_start"
    start = course.steps(config[name], num_examples, total_steps) if config[name] else 0
    if config.ema_every > total_steps + course.shift:
        what = "the averaged weights stay the initial ones"
        _say_once(f"config.ema_every = {config.ema_every}", total_steps, what)
    elif start and start >= total_steps:
        what = "the averaged weights are those of the last step"
        _say_once(f"config.{name} = {config[name]!r}, step {start}", total_steps, what)


@functools.cache  # a program is made more than once
def _say_once(field: str, total_steps: int, what: str) -> None:
    logging.warning("%s is beyond the %d steps of the run: %s", field, total_steps, what)


def _total_steps(config: ml_collections.ConfigDict, course: Course, num_examples: int) -> int:
    """Of a run. Raises ConfigError if they cannot be counted, or are none."""
    total_steps = course.steps(config.duration, num_examples)
    if total_steps >= 2**31:
        raise ConfigError(
            f"config.duration = {config.duration!r} is {total_steps} steps, more than the "
            "2147483647 that can be counted"
        )
    if total_steps < 1 and not course.offset:
        raise ConfigError(
            f"config.duration = {config.duration!r} is less than one step of "
            f"{config.batch_size} of {num_examples} examples"
        )
    return total_steps


def make_program(
    task: Task,
    mesh: Mesh,
    *,
    num_examples: int | None = None,
    platform: str | None = None,
    course: Course | None = None,
) -> Program:
    """Builds model, schedule and optimizer for a data set.

    Args:
      task: what is learnt, on a data set; its config is checked by
        `program_checks.check_config`.
      mesh: the devices, see `sharding.make_mesh`.
      num_examples: training examples per epoch; None: only to evaluate.
      platform: "tpu" or "cuda" if the devices are described and not attached.
      course: of a run that goes on with another batch size; None: it has been this one.

    Raises:
      ConfigError: if the run or its warmup has no sensible length for this data set.
    """
    config = task.config
    course = course or course_of(config)
    total_steps, schedule = 0, lambda step: 0.0
    if num_examples is not None:
        total_steps = _total_steps(config, course, num_examples)
        schedule = make_schedule(
            config, total_steps=total_steps, num_examples=num_examples, course=course
        )
        _warn_of_average(config, course, num_examples, total_steps)
    model = task.model(sharding.batch_shards(mesh))
    layers, frozen = _ruled(config, model)
    tuning, scale = make_tuning(config, model, frozen), None
    if tuning.mode == "layerwise":
        size, groups = config.data.image_size, tuning.layer_groups
        scale = decay_by_layer(model, size, tuning.layer_decay, groups)
    whole = max(total_steps + course.shift, 1)
    optimizer = make_optimizer(
        config.optim, schedule, layers, scale, lambda updates: (updates + course.shift) / whole
    )
    if prunes(config):
        sizes = {"num_examples": num_examples or 1, "total_steps": total_steps}
        optimizer = prune_while_training(optimizer, config, layers, course=course, **sizes)
    return Program(
        task=task,
        mesh=mesh,
        model=model,
        optimizer=optimizer,
        tuning=tuning,
        learning_rate=jax.jit(schedule),
        num_examples=num_examples or 0,
        total_steps=total_steps,
        course=course,
        platform=platform,
        teacher=None if num_examples is None else make_teacher(task),
    )

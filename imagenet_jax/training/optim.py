"""Optax schedules and optimizers by name."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import ml_collections
import optax
from absl import logging

from imagenet_jax.errors import ConfigError
from imagenet_jax.training.position import Course

Schedule = Callable[[jax.Array | int], jax.Array]


def make_schedule(
    config: ml_collections.ConfigDict,
    *,
    total_steps: int,
    num_examples: int,
    course: Course | None = None,
) -> Schedule:
    """The learning rate as a function of the number of updates done.

    Linear warmup from 0, then the course named by schedule.name: "cosine" and "linear" fall
    to schedule.end times the peak at `total_steps`, "step" multiplies by schedule.factor at
    each boundary, "constant" stays. It is a function of the share of the run's examples that
    were seen: after a change of the batch size it goes on from there over what is left.

    Args:
      config: see `schema.SCHEMA`.
      total_steps: updates of the whole run.
      num_examples: examples per epoch.
      course: of the run; by default its batch size was never another one.

    Raises:
      ConfigError: if the warmup is longer than the run.
    """
    schedule, peak = config.schedule, config.optim.learning_rate

    course = course or Course(config.batch_size)

    def steps(duration: str) -> float:
        """When it is over, in steps of today's size from the first example on."""
        if not course.interval(duration, num_examples, total_steps):
            return 0
        return max(course.steps(duration, num_examples, total_steps) + course.shift, 0)

    total = total_steps + course.shift
    warmup = steps(schedule.warmup)
    if warmup >= total and warmup:
        raise ConfigError(
            f"config.schedule.warmup = {schedule.warmup!r} is {warmup} steps, the whole run "
            f"(config.duration = {config.duration!r}) is {total_steps}; warm up for less"
        )
    if not warmup and re.search("[1-9]", schedule.warmup):
        logging.warning("config.schedule.warmup = %r is less than a step: none", schedule.warmup)
    rest = total - warmup
    if schedule.name == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=schedule.end)
    elif schedule.name == "linear":
        after = optax.linear_schedule(peak, peak * schedule.end, rest)
    elif schedule.name == "step":
        boundaries = [(duration, steps(duration) - warmup) for duration in schedule.boundaries]
        after = optax.piecewise_constant_schedule(peak, _drops(config, boundaries, rest))
    else:
        after = optax.constant_schedule(peak)
    rate = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
    return (lambda step: rate(step + course.shift)) if course.shift else rate


def _drops(
    config: ml_collections.ConfigDict, boundaries: Sequence[tuple[str, float]], rest: float
) -> dict[float, float]:
    """{step after the warmup: factor} of boundaries (as the config has it, step) before `rest`."""
    drops: dict[float, float] = {}
    for duration, step in boundaries:
        if step < rest:
            drops[step] = drops.get(step, 1.0) * config.schedule.factor
        else:
            logging.warning(
                "config.schedule.boundaries: %r lies not within config.duration = %r: no drop",
                *(duration, config.duration),
            )
    return drops


def make_optimizer(
    optim: ml_collections.ConfigDict, schedule: Schedule
) -> optax.GradientTransformation:
    """SGD with momentum and L2 weight decay, or AdamW with decoupled weight decay."""
    mask = None if optim.decay_norm_and_bias else partial(decay_mask, patterns=optim.decayed)
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    kept = None if optim.momentum_dtype == "float32" else optim.momentum_dtype
    if optim.name == "adamw":
        update = optax.adamw(
            schedule,
            b1=optim.b1,
            b2=optim.b2,
            eps=optim.eps,
            mu_dtype=kept,
            weight_decay=optim.weight_decay,
            mask=mask,
        )
    else:
        update = optax.chain(
            optax.add_decayed_weights(optim.weight_decay, mask),
            optax.sgd(schedule, optim.momentum or None, optim.nesterov, kept),
        )
    return optax.chain(clip, update)


def decay_mask(params: optax.Params, patterns: Sequence[str]) -> optax.Params:
    """True for parameters in whose path, as "layer1.0/conv1/kernel", a pattern is found."""

    def decays(path: Any, _: jax.Array) -> bool:
        # One by one: a pattern may have flags, groups and numbers of groups of its own.
        name = "/".join(key.key for key in path)
        return any(re.search(pattern, name) for pattern in patterns)

    return jax.tree_util.tree_map_with_path(decays, params)

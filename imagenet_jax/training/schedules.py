"""The learning rate as a function of the number of updates done."""

import math
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import optax
from absl import logging

from imagenet_jax.config.durations import exact_steps_of
from imagenet_jax.errors import ConfigError
from imagenet_jax.training.position import Course

Schedule = Callable[[jax.Array | int], jax.Array]

# Those that reach schedule.end by themselves, and stay there in a cooldown.
_ENDING = ("cosine", "quarter_cosine", "linear", "polynomial")


def make_schedule(
    config: ml_collections.ConfigDict,
    *,
    total_steps: int,
    num_examples: int,
    course: Course | None = None,
) -> Schedule:
    """The learning rate as a function of the number of updates done.

    Linear warmup, the peak for schedule.hold, then the course named by schedule.name, over what
    these leave of the run or, without schedule.warmup_prefix, over all but schedule.hold of it,
    the warmup taking the place of its beginning:

    - "cosine", "linear" and "polynomial" (the share that is left, to a power) fall from the peak
      to schedule.end at `total_steps`, or where the cooldown begins; so does "quarter_cosine",
      the cosine of an angle that rises evenly from 0;
    - "step" multiplies by schedule.factor at each boundary;
    - "exponential" does so every schedule.timescale, never below schedule.end;
    - "rsqrt" is peak / sqrt(1 + t / timescale);
    - "constant" stays.

    The latter four fall in a cooldown to schedule.end, each by a factor that is linear in time,
    as in big_vision. It is a function of the share of the run's examples that were seen: after a
    change of the batch size it goes on from there over what is left.

    Args:
      config: see `schema.SCHEMA`.
      total_steps: updates of the whole run.
      num_examples: examples per epoch.
      course: of the run; by default its batch size was never another one.

    Raises:
      ConfigError: if warmup, hold and cooldown are longer than the run, a rate of schedule.unit =
        "rate" is above the peak, or schedule.timescale is nothing.
    """
    schedule, peak = config.schedule, config.optim.learning_rate
    course = course or Course(config.batch_size)

    def steps(duration: str) -> float:
        """When it is over, in steps of today's size from the first example on."""
        if not course.interval(duration, num_examples, total_steps):
            return 0
        return course.over_at(duration, num_examples, total_steps)

    total = total_steps + course.shift
    warmup = steps(schedule.warmup)
    hold, cooldown = (
        course.interval(duration, num_examples, total_steps)
        for duration in (schedule.hold, schedule.cooldown)
    )
    _check_lengths(config, warmup, hold, cooldown, total, total_steps)
    start, end = (_share(config, name) for name in ("warmup_start", "end"))
    begin = warmup if schedule.warmup_prefix else 0
    begin += hold
    rest = total - begin
    if schedule.name == "step":
        boundaries = [(duration, steps(duration) - begin) for duration in schedule.boundaries]
        after = optax.piecewise_constant_schedule(peak, _drops(config, boundaries, rest))
    elif schedule.name in ("exponential", "rsqrt"):
        after = _decaying(config, peak, end, _timescale(config, num_examples, total))
    else:
        after = _falling(config, peak, end, rest - cooldown)
    if cooldown and schedule.name not in _ENDING:
        after = _cooled(after, peak * end, rest, cooldown)
    rate = _warmed(_delayed(after, begin - warmup), peak * start, peak, warmup)
    if schedule.interval == "epoch":
        rate = _by_epochs(rate, num_examples / config.batch_size)
    return _later(rate, course.shift) if course.shift else rate


def _warmed(rate: Schedule, start: float, peak: float, warmup: float) -> Schedule:
    """`rate` behind a linear rise."""
    return optax.join_schedules([optax.linear_schedule(start, peak, warmup), rate], [warmup])


def _check_lengths(
    config: ml_collections.ConfigDict,
    warmup: float,
    hold: int,
    cooldown: int,
    total: float,
    total_steps: int,
) -> None:
    schedule = config.schedule
    if warmup >= total and warmup:
        raise ConfigError(
            f"config.schedule.warmup = {schedule.warmup!r} is {warmup} steps, the whole run "
            f"(config.duration = {config.duration!r}) is {total_steps}; warm up for less"
        )
    if warmup + hold >= total and hold:
        raise ConfigError(
            f"config.schedule.hold = {schedule.hold!r} is {hold} steps after a warmup of {warmup}, "
            f"the whole run (config.duration = {config.duration!r}) is {total_steps}; hold the "
            "peak for less"
        )
    if warmup + hold + cooldown >= total and cooldown:
        raise ConfigError(
            f"config.schedule.cooldown = {schedule.cooldown!r} is {cooldown} steps after a warmup "
            f"of {warmup}{f' and a hold of {hold}' if hold else ''}, the whole run "
            f"(config.duration = {config.duration!r}) is {total_steps}; cool down for less"
        )
    if not warmup and re.search("[1-9]", schedule.warmup):
        logging.warning("config.schedule.warmup = %r is less than a step: none", schedule.warmup)


def _falling(config: ml_collections.ConfigDict, peak: float, end: float, steps: float) -> Schedule:
    """What reaches `end` times the peak after so many steps, or stays."""
    schedule = config.schedule
    if schedule.name == "cosine":
        return optax.cosine_decay_schedule(peak, steps, alpha=end)
    if schedule.name == "quarter_cosine":
        angle = math.acos(end)
        return lambda time: peak * jnp.cos(angle * jnp.clip(time / steps, 0, 1))
    if schedule.name == "linear":
        return optax.linear_schedule(peak, peak * end, steps)
    if schedule.name == "polynomial":
        return optax.polynomial_schedule(peak, peak * end, schedule.power, steps)
    return optax.constant_schedule(peak)


def _share(config: ml_collections.ConfigDict, name: str) -> float:
    """config.schedule.NAME as a share of the peak."""
    value, peak = config.schedule[name], config.optim.learning_rate
    if config.schedule.unit == "share":
        return value
    if value > peak:
        raise ConfigError(
            f"config.schedule.{name} = {value:g} is above the peak, config.optim.learning_rate = "
            f"{peak:g} (config.schedule.unit = 'rate')"
        )
    return value / peak if peak else 0.0


def _timescale(config: ml_collections.ConfigDict, num_examples: int, total: float) -> float:
    """config.schedule.timescale in steps, not rounded: of many a rounding would add up."""
    text = config.schedule.timescale
    steps = exact_steps_of(
        text, batch_size=config.batch_size, num_examples=num_examples, total_steps=total
    )
    if steps <= 0:
        raise ConfigError(f"config.schedule.timescale = {text!r} is nothing; it has to be longer")
    return steps


def _decaying(
    config: ml_collections.ConfigDict, peak: float, end: float, timescale: float
) -> Schedule:
    if config.schedule.name == "rsqrt":
        return lambda time: peak / jnp.sqrt(1 + time / timescale)
    factor = config.schedule.factor
    # A fiftieth of a step more: a quotient that is whole could be rounded to less. And an epoch's
    # first step lies up to half a step before the epoch.
    more = 0.02 + 0.5 * (config.schedule.interval == "epoch")

    def stairs(time: jax.Array) -> jax.Array:
        return jnp.maximum(peak * factor ** jnp.floor((time + more) / timescale), peak * end)

    return stairs


def _cooled(rate: Schedule, end: float, rest: float, cooldown: int) -> Schedule:
    """`rate` that goes to `end` in the last `cooldown` of `rest` steps."""
    return lambda time: end + (rate(time) - end) * jnp.clip((rest - time) / cooldown, 0, 1)


def _later(rate: Schedule, steps: float) -> Schedule:
    return lambda step: rate(step + steps)


def _delayed(rate: Schedule, steps: float) -> Schedule:
    """`rate` that begins so much later, and is until then what it begins with."""
    if not steps:
        return rate
    return lambda time: rate(jnp.maximum(time - steps, 0))


def _by_epochs(rate: Schedule, length: float) -> Schedule:
    """That of the first step of each epoch, which begins at the step nearest to it."""
    # Not 0.5, as what lies between two steps begins at the second one.
    return lambda step: rate(jnp.floor(jnp.floor((step + 0.49) / length) * length + 0.5))


def _drops(
    config: ml_collections.ConfigDict, boundaries: Sequence[tuple[str, float]], rest: float
) -> dict[float, float]:
    """{step after the course's begin: factor} of boundaries (as the config has it, step) before
    `rest`."""
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

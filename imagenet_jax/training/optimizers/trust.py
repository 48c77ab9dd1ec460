"""Trust ratios: updates in proportion to the norm of each parameter, LARS, LARC and LAMB."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax


def norm(array: jax.Array, axes: Sequence[int] | None = None) -> jax.Array:
    """The root of the sum of squares, over all axes or these, which are kept."""
    return jnp.sqrt(jnp.sum(jnp.square(array), axes, keepdims=axes is not None))


def scale_by_lars(
    weight_decay: float, factors: Callable[[Any], Any], coefficient: float
) -> optax.GradientTransformation:
    """LARS (You et al. 2017, https://arxiv.org/abs/1708.03888) as in MLPerf's reference.

    (gradient + decay x parameter) x coefficient x |w| / (|g| + decay |w|), where optax.lars
    divides by |g + decay w|; 1 if a norm is zero. Parameters that do not decay, biases and norms,
    keep their gradient as it is.

    Args:
      weight_decay: L2, within the gradient.
      factors: makes the decay's factor of each parameter of the parameters.
      coefficient: the trust coefficient, 0.001.
    """
    scale = partial(_by_norms, weight_decay, coefficient, lambda ratio: ratio)
    return optax.stateless(
        lambda updates, params: jax.tree.map(scale, factors(params), updates, params)
    )


def scale_by_larc(
    weight_decay: float,
    factors: Callable[[Any], Any],
    coefficient: float,
    schedule: Callable[[jax.Array], Any],
) -> optax.GradientTransformation:
    """As `scale_by_lars`, with a ratio that makes no step longer than without it.

    It is divided by the learning rate and at most 1: LARC of NVIDIA's apex, timm's Lars with
    trust_clip. The state is the number of updates.

    Args:
      weight_decay: L2, within the gradient.
      factors: makes the decay's factor of each parameter of the parameters.
      coefficient: the trust coefficient, 0.02 in apex.
      schedule: the learning rate by updates done.
    """

    def init(params: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: optax.ScaleByScheduleState, params: Any) -> tuple[Any, Any]:
        rate = schedule(state.count)
        limited = lambda ratio: jnp.where(ratio < rate, ratio / rate, 1.0)  # noqa: E731
        scale = partial(_by_norms, weight_decay, coefficient, limited)
        scaled = jax.tree.map(scale, factors(params), updates, params)
        return scaled, optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _by_norms(
    weight_decay: float,
    coefficient: float,
    limited: Callable[[jax.Array], jax.Array],
    factor: float,
    gradient: jax.Array,
    param: jax.Array,
) -> jax.Array:
    if not factor:
        return gradient
    decay = weight_decay * factor
    size, slope = norm(param), norm(gradient)
    below = slope + decay * size
    known = (size > 0) & (slope > 0)
    ratio = jnp.where(known, limited(coefficient * size / jnp.where(known, below, 1)), 1.0)
    return ratio * (gradient + decay * param)


def scale_by_trust_ratio(factors: Callable[[Any], Any]) -> optax.GradientTransformation:
    """LAMB's |w| / |update| (You et al. 2019, https://arxiv.org/abs/1904.00962).

    As in timm's and apex' LAMB parameters that do not decay have none; in optax.lamb all have.
    """

    def scale(factor: float, update: jax.Array, param: jax.Array) -> jax.Array:
        if not factor:
            return update
        size, length = norm(param), norm(update)
        known = (size > 0) & (length > 0)
        return update * jnp.where(known, size / jnp.where(known, length, 1), 1.0)

    return optax.stateless(
        lambda updates, params: jax.tree.map(scale, factors(params), updates, params)
    )

"""Prodigy: Adam that estimates its own rate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.training.schedules import Schedule


class ProdigyState(NamedTuple):
    """Moments, and what the distance to the solution is estimated from.

    Attributes:
      count: updates done.
      mu, nu: moments of the gradient times the estimate.
      total: weighted sum of the gradients.
      first: the parameters at the start.
      distance: the estimate.
      numerator: of the estimate.
    """

    count: jax.Array
    mu: Any
    nu: Any
    total: Any
    first: Any
    distance: jax.Array
    numerator: jax.Array


def prodigy(
    schedule: Schedule,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    factors: Callable[[Any], Any],
    start: float = 1e-6,
) -> optax.GradientTransformation:
    """Prodigy (Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101), as in prodigyopt.

    The rate is the schedule's, with a peak of 1, times the estimated distance; decay is decoupled
    and times that rate. Optax's version decays all parameters, and becomes NaN where a warmup
    begins at 0.

    Args:
      schedule: factor of the estimated rate, by updates done.
      b1, b2, eps: Adam's; the sums of the estimate decay with the root of b2.
      weight_decay: decoupled.
      factors: makes the decay's factor of each parameter of the parameters.
      start: first estimate of the distance.
    """
    b3 = b2**0.5

    def init(params: Any) -> ProdigyState:
        mu, nu, total = (optax.tree.zeros_like(params) for _ in range(3))
        # A copy: the donated state may not hold the same buffer twice.
        first = jax.tree.map(jnp.copy, params)
        scalars = (jnp.full((), start, jnp.float32), jnp.zeros((), jnp.float32))
        return ProdigyState(jnp.zeros((), jnp.int32), mu, nu, total, first, *scalars)

    def update(updates: Any, state: ProdigyState, params: Any) -> tuple[Any, ProdigyState]:
        distance = state.distance
        rate = distance * schedule(state.count)
        way = optax.tree.sum(
            jax.tree.map(lambda g, a, p: jnp.sum(g * (a - p)), updates, state.first, params)
        )
        numerator = b3 * state.numerator + distance / start * rate * way
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * distance * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * (distance * g) ** 2, state.nu, updates)
        total = jax.tree.map(
            lambda s, g: b3 * s + distance / start * rate * g, state.total, updates
        )
        below = optax.tree.sum(jax.tree.map(lambda s: jnp.sum(jnp.abs(s)), total))
        # With a rate of 0 nothing is known yet.
        estimate = jnp.where(below > 0, numerator / jnp.where(below > 0, below, 1), 0)
        new = jnp.maximum(distance, estimate)
        updates = jax.tree.map(
            lambda factor, m, v, p: -rate * (m / root(v, new) + weight_decay * factor * p),
            *(factors(params), mu, nu, params),
        )
        return updates, ProdigyState(state.count + 1, mu, nu, total, state.first, new, numerator)

    def root(nu: jax.Array, distance: jax.Array) -> jax.Array:
        return jnp.sqrt(nu) + distance * eps

    return optax.GradientTransformation(init, update)

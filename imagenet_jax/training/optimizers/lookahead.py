"""Lookahead: every few steps the parameters go back to an average of where they have been."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LookaheadState(NamedTuple):
    """Updates done, the average, and the state of the optimizer that runs ahead of it."""

    count: jax.Array
    slow: Any
    inner: Any


def lookahead(
    inner: optax.GradientTransformation,
    share: float,
    every: int,
    power: float,
    progress: Callable[[jax.Array], jax.Array],
) -> optax.GradientTransformation:
    """Zhang et al. 2019, https://arxiv.org/abs/1907.08610; with a `power` as in airbench.

    Every so many updates the average moves by a share of the way to the parameters, and they
    become it. After the last update they do so whatever its number is.

    Args:
      inner: the optimizer; its updates have the rate in them.
      share: of the way that the average moves.
      every: updates from one move to the next.
      power: the share falls from 1 to `share` by this power of the progress; 0: it is constant.
      progress: share of the run that is done after so many updates.
    """

    def init(params: Any) -> LookaheadState:
        # A copy: the donated state may not hold the same buffer twice.
        slow = jax.tree.map(jnp.copy, params)
        return LookaheadState(jnp.zeros((), jnp.int32), slow, inner.init(params))

    def update(updates: Any, state: LookaheadState, params: Any) -> tuple[Any, LookaheadState]:
        updates, inner_state = inner.update(updates, state.inner, params)
        count = state.count + 1
        done, moves = jnp.clip(progress(count), 0, 1), count % every == 0
        way = jnp.where(moves, 1 - (1 - share) * done**power, 0.0)
        slow = jax.tree.map(
            lambda slow, param, update: slow + way * (param + update - slow),
            *(state.slow, params, updates),
        )
        returns = moves | (done > 1 - 1e-6)  # a quotient may be rounded
        updates = jax.tree.map(
            lambda slow, param, update: jnp.where(returns, slow - param, update),
            *(slow, params, updates),
        )
        return updates, LookaheadState(count, slow, inner_state)

    return optax.GradientTransformation(init, update)

"""Schedule-free: an average of the way takes the place of the rate's decay."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.training.optimizers.prune import masked
from imagenet_jax.training.schedules import Schedule


class ScheduleFreeState(NamedTuple):
    """What is kept beside the parameters, which are where gradients are computed.

    Attributes:
      count: updates done.
      z: where the plain optimizer is.
      beta: how much of the average there is in the parameters.
      total: sum of the weights of the average.
      highest: rate so far.
      inner: state of the plain optimizer.
    """

    count: jax.Array
    z: Any
    beta: jax.Array
    total: jax.Array
    highest: jax.Array
    inner: Any


def schedule_free(
    inner: optax.GradientTransformation, schedule: Schedule, beta: float
) -> optax.GradientTransformation:
    """Defazio et al. 2024, https://arxiv.org/abs/2405.15682, as in schedulefree 1.4.

    z goes as `inner` says, x is the average of z weighted by the square of the highest rate so
    far, and the parameters are y = (1 - beta) z + beta x. Evaluated is x, see `averaged`. Unlike
    in Optax's the weights are those of the rates that the updates have.

    Args:
      inner: without momentum; its updates have the rate in them.
      schedule: of the rate, without decay.
      beta: above 0 and below 1.
    """

    def init(params: Any) -> ScheduleFreeState:
        # A copy: the donated state may not hold the same buffer twice.
        z = jax.tree.map(jnp.copy, params)
        zero = jnp.zeros((), jnp.float32)
        count, share = jnp.zeros((), jnp.int32), jnp.full((), beta, jnp.float32)
        return ScheduleFreeState(count, z, share, zero, zero, inner.init(params))

    def update(updates: Any, state: ScheduleFreeState, params: Any) -> tuple[Any, Any]:
        highest = jnp.maximum(state.highest, schedule(state.count))
        total = state.total + highest**2
        share = jnp.where(total > 0, highest**2 / jnp.where(total > 0, total, 1), 0)
        moves, inner_state = inner.update(updates, state.inner, params)
        z = jax.tree.map(jnp.add, state.z, moves)
        # (1 - beta) z + beta x after both have moved, less y: without x, which would be rounded.
        updates = jax.tree.map(
            lambda y, new, move: share * (new - y) + (1 - share) * (1 - beta) * move,
            *(params, z, moves),
        )
        return updates, ScheduleFreeState(
            state.count + 1, z, state.beta, total, highest, inner_state
        )

    return optax.GradientTransformation(init, update)


def averaged(opt_state: Any, params: Any) -> Any:
    """The parameters to evaluate: x of `schedule_free`, and those given with other optimizers.

    Args:
      opt_state: of an optimizer in which a `schedule_free` may be.
      params: the parameters, also those that are frozen; arrays, or their shapes.
    """
    states = jax.tree.leaves(opt_state, is_leaf=_is_state)
    found = next((state for state in states if _is_state(state)), None)
    if found is None or isinstance(found.beta, jax.ShapeDtypeStruct):
        return params
    x = jax.tree.map(
        lambda z, y: y if z is None else y + (1 / found.beta - 1) * (y - z),
        *(found.z, params),
        is_leaf=lambda leaf: leaf is None,
    )
    return masked(opt_state, x)  # z goes on without the masks


def _is_state(tree: Any) -> bool:
    return isinstance(tree, ScheduleFreeState)

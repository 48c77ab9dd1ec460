"""Weight decay that changes over a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def decay_over_time(
    decay: optax.GradientTransformation, end: float, progress: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """What `decay` adds to the updates, times a factor that goes from 1 to `end` by a cosine.

    As DINO does it (Caron et al. 2021, https://arxiv.org/abs/2104.14294). The state is the number
    of updates, and that of `decay`.

    Args:
      decay: adds something to the updates.
      end: the factor at the end of the run.
      progress: share of the run that is done after so many updates.
    """

    def init(params: Any) -> tuple[optax.ScaleByScheduleState, Any]:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), decay.init(params)

    def update(updates: Any, state: tuple[Any, Any], params: Any) -> tuple[Any, Any]:
        (count,), inner = state
        decayed, inner = decay.update(updates, inner, params)
        factor = end + (1 - end) * (1 + jnp.cos(jnp.pi * progress(count))) / 2
        updates = jax.tree.map(lambda old, new: old + factor * (new - old), updates, decayed)
        return updates, (optax.ScaleByScheduleState(count + 1), inner)

    return optax.GradientTransformation(init, update)

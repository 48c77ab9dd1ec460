"""The average of the weights in training: exponential (EMA) or equal (SWA)."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.models.layers.quantized import is_range
from imagenet_jax.training.rules import path_of
from imagenet_jax.training.state import TrainState


def has_average(config: ml_collections.ConfigDict) -> bool:
    """Whether a run keeps averaged weights."""
    return config.ema_decay > 0 or bool(config.swa_start)


def moved_average(
    state: TrainState,
    params: Any,
    batch_stats: Any,
    config: ml_collections.ConfigDict,
    start: int,
    course: tuple[float, float] = (0, 1),
) -> Any:
    """The averaged {"params", "batch_stats"} after a step, or None where there are none.

    It moves after every config.ema_every steps: it copies the weights until the first move at or
    after `start`, and from then on comes nearer to them, by 1 - decay of the way. With
    config.eval.norm_batches its statistics stay as they are, for `norms` to estimate.

    Args:
      state: before the step.
      params, batch_stats: after it.
      config: see `schema.SCHEMA`.
      start: step at which config.ema_start or swa_start is over.
      course: steps that were done before step 0, in batches of another size, and steps of the
        run with these, at which the decay of config.ema_ramp = "cosine" is 1.
    """
    if state.ema is None:
        return None
    every, copies = config.ema_every, -(-start // config.ema_every)
    if config.swa_start:  # of the moves alone: the initial weights are none
        copies = max(copies, 1)
    moves = state.step if every == 1 else state.step // every
    moves = moves - copies if copies else moves  # averaged ones before this one
    before, whole = course
    done = (state.step + before) / whole
    decay = _decay(config, jnp.maximum(moves, 0) if copies else moves, done)
    if copies:
        decay = jnp.where(moves < 0, 0.0, decay)
    if every > 1:
        decay = jnp.where((state.step + 1) % every == 0, decay, 1.0)

    def moved(old: Any, new: Any) -> Any:
        return jax.tree_util.tree_map_with_path(moved_leaf, old, new)

    def moved_leaf(path: Any, old: jax.Array, new: jax.Array) -> jax.Array:
        nearer = decay * old + (1 - decay) * new
        # The first end of a range is one that was seen, as `Quantized` has it.
        return jnp.where(old == 0, new, nearer) if is_range(path_of(path)) else nearer

    params = moved(state.ema["params"], params)
    if config.eval.norm_batches:
        return {"params": params, "batch_stats": state.ema["batch_stats"]}
    return {"params": params, "batch_stats": moved(state.ema["batch_stats"], batch_stats)}


def _decay(
    config: ml_collections.ConfigDict, moves: jax.Array, done: jax.Array
) -> jax.Array | float:
    """What a move keeps of the average, after so many; `done` is the share of the run."""
    if config.swa_start:
        return (1.0 + moves) / (2.0 + moves)
    if config.ema_ramp == "none":
        return config.ema_decay
    if config.ema_ramp == "cosine":
        return 1.0 - (1.0 - config.ema_decay) * (1.0 + jnp.cos(jnp.pi * done)) / 2.0
    if config.ema_ramp == "timm":
        return jnp.minimum(config.ema_decay, 1.0 - (1.0 + moves) ** (-2 / 3))
    return jnp.minimum(config.ema_decay, (1.0 + moves) / (10.0 + moves))

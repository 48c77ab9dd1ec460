"""Metrics as sums and counts, so that batches, devices and processes add up exactly."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

SUMS = {
    "loss": jnp.float32,
    "correct_top1": jnp.int32,
    "correct_top5": jnp.int32,
    "count": jnp.int32,
}


def zero_sums() -> dict[str, jax.Array]:
    """The sums over no examples."""
    return {name: jnp.zeros((), dtype) for name, dtype in SUMS.items()}


def rank_of(logits: jax.Array, label: jax.Array) -> jax.Array:
    """How many classes score higher than the label's, int32 [B].

    Among equal scores the lower class number counts as higher, as in argmax; NaN counts as higher
    than any.

    Args:
      logits: float32 [B, K].
      label: int32 [B].
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=-1)
    earlier = jnp.arange(logits.shape[-1])[None] < label[:, None]
    higher = ~(logits <= own) | ((logits == own) & earlier)
    return higher.sum(-1)


def classification_sums(
    logits: jax.Array, label: jax.Array, loss: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums over the examples with mask True.

    The prediction is in the top k if fewer than k classes score higher, see `rank_of`.

    Args:
      logits: float32 [B, K].
      label: int32 [B].
      loss: float32 [B].
      mask: bool [B].

    Returns:
      A scalar for each name in SUMS.
    """
    rank = rank_of(logits, label)
    return {
        "loss": jnp.where(mask, loss, 0).sum(),
        "correct_top1": (mask & (rank < 1)).sum(dtype=jnp.int32),
        "correct_top5": (mask & (rank < 5)).sum(dtype=jnp.int32),
        "count": mask.sum(dtype=jnp.int32),
    }


def summarize(sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
    """Adds sums up on the host.

    Returns:
      num_examples, correct_top1, correct_top5 (int), and the means top1, top5, loss (float,
      NaN without examples).
    """
    total = dict.fromkeys(SUMS, 0)
    for part in sums:
        for name in total:
            total[name] += part[name].item()
    count = total["count"]
    divide = count or float("nan")
    return {
        "num_examples": count,
        "correct_top1": total["correct_top1"],
        "correct_top5": total["correct_top5"],
        "top1": total["correct_top1"] / divide,
        "top5": total["correct_top5"] / divide,
        "loss": total["loss"] / divide,
    }

"""Losses per example."""

import jax
import optax

from imagenet_jax.augment import Targets


def cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy float32 [B] with label smoothing (Szegedy et al. 2016).

    Args:
      logits: float32 [B, K].
      label: int32 [B], 0 <= label < K.
      smoothing: share of the target that is spread evenly over all K classes, 0 to 1.
    """
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if not smoothing:
        return hard
    even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)
    return (1 - smoothing) * hard + smoothing * even


def mixed_cross_entropy(logits: jax.Array, targets: Targets, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross-entropy float32 [B] of mixed images, both labels smoothed.

    It is linear in the target, so it equals that of the soft target of both labels.
    """
    loss = cross_entropy(logits, targets.label, smoothing)
    if targets.weight is None:
        return loss
    other = cross_entropy(logits, targets.other, smoothing)
    return targets.weight * loss + (1 - targets.weight) * other

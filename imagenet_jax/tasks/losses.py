"""Losses per example."""

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.augment import Targets


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    smoothing: float = 0.0,
    weights: tuple[float, ...] = (),
) -> jax.Array:
    """Softmax cross-entropy float32 [B, ...] with label smoothing (Szegedy et al. 2016).

    Args:
      logits: float32 [B, ..., K].
      label: int32 [B, ...], 0 <= label < K.
      smoothing: share of the target that is spread evenly over all K classes, 0 to 1.
      weights: factors of the K classes' terms, as torch has them; (): 1.
    """
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if weights:
        hard *= jnp.array(weights)[label]
    if not smoothing:
        return hard
    if weights:
        of_class = jax.lax.broadcast_to_rank(jnp.array(weights), logits.ndim)
        even = -(jax.nn.log_softmax(logits) * of_class).mean(-1)
    else:
        even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1)
    return (1 - smoothing) * hard + smoothing * even


def mixed_cross_entropy(
    logits: jax.Array,
    targets: Targets,
    smoothing: float = 0.0,
    weights: tuple[float, ...] = (),
) -> jax.Array:
    """Softmax cross-entropy float32 [B] of mixed images, both labels smoothed and weighted.

    It is linear in the target, so it equals that of the soft target of both labels.
    """
    loss = cross_entropy(logits, targets.label, smoothing, weights)
    if targets.weight is None:
        return loss
    other = cross_entropy(logits, targets.other, smoothing, weights)
    return targets.weight * loss + (1 - targets.weight) * other


def jensen_shannon(logits: jax.Array) -> jax.Array:
    """The Jensen-Shannon divergence float32 [B] between V views' softmax, of logits [B, V, K].

    As in AugMix (Hendrycks et al. 2020, https://arxiv.org/abs/1912.02781): the mean probability
    is 1e-7 at least.
    """
    log = jax.nn.log_softmax(logits)
    mean = jnp.log(jnp.clip(jnp.exp(log).mean(1, keepdims=True), 1e-7, 1))
    return (jnp.exp(log) * (log - mean)).sum((1, 2)) / logits.shape[1]


def class_targets(targets: Targets, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """What mixed images show of each class, float32 [B, K] in [0, 1], from one label each.

    Args:
      targets: labels int32 [B].
      num_classes: K.
      smoothing: share of the target that is spread evenly over all K classes, as timm has it.
    """

    def smoothed(label: jax.Array) -> jax.Array:
        return (1 - smoothing) * jax.nn.one_hot(label, num_classes) + smoothing / num_classes

    if targets.weight is None:
        return smoothed(targets.label)
    weight = targets.weight[:, None]
    return weight * smoothed(targets.label) + (1 - weight) * smoothed(targets.other)


def above(target: jax.Array, threshold: float) -> jax.Array:
    """1 where a target is above the threshold, else 0; as it is if that is 0."""
    return (target > threshold).astype(target.dtype) if threshold else target


def soft_labels(targets: Targets) -> jax.Array:
    """What mixed images show of each class, float32 [B, K] in [0, 1], from labels [B, K]."""
    label = targets.label.astype(jnp.float32)
    if targets.weight is None:
        return label
    weight = targets.weight[:, None]
    return weight * label + (1 - weight) * targets.other


def binary_cross_entropy(
    logits: jax.Array,
    target: jax.Array,
    reduction: str,
    smoothing: float = 0.0,
    weights: tuple[float, ...] = (),
) -> jax.Array:
    """Sigmoid cross-entropy float32 [B] over the classes.

    Args:
      logits: float32 [B, K].
      target: float32 [B, K] in [0, 1].
      reduction: "mean" over the classes (timm, torch) or their "sum" (big_vision).
      smoothing: share of the target that becomes one half, 0 to 1 (Keras).
      weights: factors of the K classes' terms, as torch has them; (): 1.
    """
    target = (1 - smoothing) * target + smoothing / 2
    loss = optax.sigmoid_binary_cross_entropy(logits, target)
    if weights:
        loss *= jnp.array(weights)[None]
    return loss.sum(-1) if reduction == "sum" else loss.mean(-1)

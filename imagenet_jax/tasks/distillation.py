"""Losses by which a network learns what a teacher says, per example."""

import jax
import jax.numpy as jnp
import optax


def of_one_class(logits: jax.Array, teacher: jax.Array, kind: str, temperature: float) -> jax.Array:
    """Of images with one label each, float32 [B].

    Args:
      logits: float32 [B, K].
      teacher: the teacher's, float32 [B, K].
      kind: "soft": the Kullback-Leibler divergence from the teacher's softmax, both at a
        temperature, times its square (Hinton et al. 2015, https://arxiv.org/abs/1503.02531);
        "hard": the cross-entropy with the teacher's most probable class (DeiT).
      temperature: of "soft".
    """
    if kind == "hard":
        return optax.softmax_cross_entropy_with_integer_labels(logits, teacher.argmax(-1))
    own, other = (jax.nn.log_softmax(x / temperature) for x in (logits, teacher))
    return temperature**2 * (jnp.exp(other) * (other - own)).sum(-1)


def of_each_class(
    logits: jax.Array, teacher: jax.Array, kind: str, temperature: float, reduction: str
) -> jax.Array:
    """Of images with several labels or none, float32 [B]: the same of each class by itself.

    Args:
      logits, teacher, temperature: as of `of_one_class`.
      kind: "soft", or "hard": the teacher says that a class is there from one half on.
      reduction: "mean" over the classes or their "sum".
    """
    if kind == "hard":
        loss = optax.sigmoid_binary_cross_entropy(logits, (teacher >= 0).astype(logits.dtype))
    else:
        own, other = logits / temperature, teacher / temperature
        target = jax.nn.sigmoid(other)
        loss = optax.sigmoid_binary_cross_entropy(own, target)
        loss = temperature**2 * (loss - optax.sigmoid_binary_cross_entropy(other, target))
    return loss.sum(-1) if reduction == "sum" else loss.mean(-1)

"""Losses per example that need no label: what two views of an image are said to show."""

import jax
import jax.numpy as jnp
import optax


def pseudo_label_loss(
    weak: jax.Array, strong: jax.Array, threshold: float
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of one view against the class that another one shows, if that is clear.

    As in FixMatch (Sohn et al. 2020, https://arxiv.org/abs/2001.07685, equation 4, and
    google-research/fixmatch, fixmatch.py).

    Args:
      weak: logits float32 [B, K] of the view that is changed little; it gets no gradient.
      strong: logits float32 [B, K] of the other.
      threshold: the probability from which on a class counts, 0 to 1.

    Returns:
      The losses float32 [B], 0 where no class counts, and bool [B] whether one does.
    """
    weak = jax.lax.stop_gradient(weak)
    confident = jax.nn.softmax(weak).max(-1) >= threshold
    loss = optax.softmax_cross_entropy_with_integer_labels(strong, weak.argmax(-1))
    return jnp.where(confident, loss, 0), confident


def squared_difference(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """The mean over the classes of the squared difference of probabilities, float32 [B] in [0, 1].

    As in Mean Teacher (Tarvainen & Valpola 2017, https://arxiv.org/abs/1703.01780, and
    CuriousAI/mean-teacher, pytorch/mean_teacher/losses.py, softmax_mse_loss).

    Args:
      student: logits float32 [B, K].
      teacher: logits float32 [B, K]; they get no gradient.
    """
    teacher = jax.lax.stop_gradient(teacher)
    return ((jax.nn.softmax(student) - jax.nn.softmax(teacher)) ** 2).mean(-1)


def sigmoid_ramp(step: jax.Array, steps: float) -> jax.Array:
    """exp(-5 (1 - t)^2) where t = step / steps rises from 0 to 1 and stays there; float32 [].

    Laine & Aila 2017, https://arxiv.org/abs/1610.02242. 1 where `steps` is 0.
    """
    if not steps:
        return jnp.ones(())
    t = jnp.clip(step / steps, 0, 1)
    return jnp.exp(-5 * (1 - t) ** 2)

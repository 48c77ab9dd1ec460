"""Losses between views of the same images, by the vectors that a network gives them.

Rows of views are in the order image 0 view 0, image 0 view 1, image 1 view 0, ... All functions
give one number for each image, the mean or sum over its views.
"""

import jax
import jax.numpy as jnp
import optax

_NEVER = -1e9  # a logit of what is no candidate; finite, as gradients of infinities are not


def nt_xent(
    vectors: jax.Array, others: jax.Array, places: jax.Array, there: jax.Array, temperature: float
) -> jax.Array:
    """SimCLR's loss (Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1), float32 [b].

    Args:
      vectors: of length 1, float32 [2 b, D], of this device.
      others: those of the global batch, float32 [2 B, D].
      places: of `vectors` among `others`, int32 [2 b].
      there: which of `others` are of images that could be read, bool [2 B].
      temperature: by which cosines are divided.

    Returns:
      The mean over both views; each is to be told from all views but itself.
    """
    columns = jnp.arange(others.shape[0])[None]
    candidates = there[None] & (columns != places[:, None])
    logits = jnp.where(candidates, vectors @ others.T / temperature, _NEVER)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, places ^ 1)
    return loss.reshape(-1, 2).mean(1)


def contrastive(
    queries: jax.Array, keys: jax.Array, places: jax.Array, there: jax.Array, temperature: float
) -> jax.Array:
    """MoCo v3's loss, float32 [b].

    Chen et al. 2021, https://arxiv.org/abs/2104.02057, algorithm 1.

    Args:
      queries: of length 1, float32 [2 b, D], of this device.
      keys: of length 1, of the teacher, float32 [2 B, D], of the global batch.
      places: the numbers of this device's images in the batch, int32 [b].
      there: which images of the batch could be read, bool [B].
      temperature: by which cosines are divided.

    Returns:
      2 x temperature x the sum over both views of the cross-entropy of finding the other view of
      the image among the other views of all.
    """
    other = keys.reshape(-1, 2, keys.shape[-1])[:, ::-1]
    logits = jnp.einsum("bvd,kvd->bvk", queries.reshape(-1, 2, queries.shape[-1]), other)
    logits = jnp.where(there[None, None], logits / temperature, _NEVER)
    labels = jnp.broadcast_to(places[:, None], logits.shape[:2])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return 2 * temperature * loss.sum(1)


def regression(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """BYOL's loss (Grill et al. 2020, https://arxiv.org/abs/2006.07733, equation 2), float32 [b].

    Args:
      predictions, targets: of length 1, float32 [2 b, D].

    Returns:
      The sum over both views of the squared distance of the prediction of one to the other.
    """
    predictions, targets = (x.reshape(-1, 2, x.shape[-1]) for x in (predictions, targets))
    return (2 - 2 * (predictions * targets[:, ::-1]).sum(-1)).sum(1)


def self_distillation(
    student: jax.Array,
    teacher: jax.Array,
    views: int,
    temperature: float,
    teacher_temperature: jax.Array | float,
) -> jax.Array:
    """DINO's loss (Caron et al. 2021, https://arxiv.org/abs/2104.14294, equation 3), float32 [b].

    Args:
      student: scores, float32 [b, V, K]; the first views are the teacher's.
      teacher: scores less their centre, float32 [b, views, K].
      views: that the teacher sees.
      temperature, teacher_temperature: of the softmax of each.

    Returns:
      The mean cross-entropy over all pairs of a view of the teacher and another of the student.
    """
    wanted = jax.nn.softmax(teacher / teacher_temperature)
    log_found = jax.nn.log_softmax(student / temperature)
    entropies = -jnp.einsum("btk,bsk->bts", wanted, log_found)
    same = jnp.eye(views, student.shape[1], dtype=bool)[None]
    pairs = views * (student.shape[1] - 1)
    return jnp.where(same, 0, entropies).sum((1, 2)) / pairs

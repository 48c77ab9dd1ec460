"""Losses that make embeddings of one class near and those of others far: metric learning.

Those that compare images take the rows of this device, "anchors", and those of all devices.
What they are divided by follows from the labels alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_NEVER = 1e9  # beyond any similarity over a temperature


class Labels(NamedTuple):
    """What is known of rows of a batch.

    Attributes:
      label: int32 [n].
      mask: bool [n], False: padding.
      place: int32 [n], which row of the global batch each is.
    """

    label: jax.Array
    mask: jax.Array
    place: jax.Array


class Pairs(NamedTuple):
    """Which of all rows [B] go with the anchors [b], bool [b, B] each.

    Attributes:
      same: other images of the anchor's class.
      other: images of other classes.
    """

    same: jax.Array
    other: jax.Array


def pairs_of(anchors: Labels, rows: Labels) -> Pairs:
    """Pairs of which both images are there."""
    there = anchors.mask[:, None] & rows.mask[None]
    alike = anchors.label[:, None] == rows.label[None]
    itself = anchors.place[:, None] == rows.place[None]
    return Pairs(there & alike & ~itself, there & ~alike)


def squared_distances(anchors: jax.Array, rows: jax.Array) -> jax.Array:
    """Squared Euclidean ones, float32 [b, B] of 0 to 4, of embeddings [b, D] and [B, D] of length
    1: twice the cosine distances."""
    return 2 - 2 * anchors @ rows.T


def triplets_of(pairs: Pairs, mining: str) -> jax.Array:
    """How many triplets each anchor has, float32 [b], in each kind of `triplet`."""
    has_other = pairs.other.any(1)
    same = pairs.same.sum(1) if mining == "semi_hard" else pairs.same.any(1)
    return jnp.where(has_other, same, 0).astype(jnp.float32)


def triplet(
    distances: jax.Array, pairs: Pairs, *, margin: float, mining: str = "semi_hard"
) -> jax.Array:
    """The sum over the triplets of each anchor, float32 [b]: FaceNet's loss.

    max(0, d(anchor, same) - d(anchor, other) + margin), see Schroff et al. 2015,
    https://arxiv.org/abs/1503.03832.

    Args:
      distances: squared, float32 [b, B].
      pairs: of the same rows.
      margin: of squared distances.
      mining: "semi_hard": each anchor with each image of its class, and of the others the nearest
        that is farther than that one, or the farthest where none is (as TensorFlow Addons has it);
        "hard": each anchor once, with the farthest of its class and the nearest other (Hermans et
        al. 2017, https://arxiv.org/abs/1703.07737).
    """
    has_triplet = triplets_of(pairs, mining) > 0
    if mining == "hard":
        far = jnp.where(pairs.same, distances, -_NEVER).max(1)
        near = jnp.where(pairs.other, distances, _NEVER).min(1)
        return jnp.where(has_triplet, jnp.maximum(far - near + margin, 0), 0)
    chosen = _semi_hard(jax.lax.stop_gradient(distances), pairs)
    other = jnp.take_along_axis(distances, chosen, 1)
    loss = jnp.maximum(distances - other + margin, 0)
    return jnp.where(pairs.same & has_triplet[:, None], loss, 0).sum(1)


def _semi_hard(distances: jax.Array, pairs: Pairs) -> jax.Array:
    """Of each anchor and each row as its image of one class: which row is the other, [b, B]."""
    others = jnp.where(pairs.other, distances, _NEVER)
    order = jnp.argsort(others, 1)
    ordered = jnp.take_along_axis(others, order, 1)
    farther = jax.vmap(lambda row, d: jnp.searchsorted(row, d, side="right"))(ordered, distances)
    farthest = jnp.maximum(pairs.other.sum(1, keepdims=True) - 1, 0)
    return jnp.take_along_axis(order, jnp.minimum(farther, farthest), 1)


def supervised_contrastive(distances: jax.Array, pairs: Pairs, *, temperature: float) -> jax.Array:
    """Of each anchor, float32 [b], 0 without another image of its class.

    L_out, equation 2 of Khosla et al. 2020, https://arxiv.org/abs/2004.11362: the mean over the
    images of the anchor's class of their cross-entropy among all other images.

    Args:
      distances: squared, float32 [b, B].
      pairs: of the same rows.
      temperature: by which cosines are divided.
    """
    cosines = (1 - distances / 2) / temperature
    others = jnp.where(pairs.same | pairs.other, cosines, -_NEVER)
    log = cosines - jax.nn.logsumexp(others, 1, keepdims=True)
    count = pairs.same.sum(1)
    return -jnp.where(pairs.same, log, 0).sum(1) / jnp.maximum(count, 1)


def additive_angular(
    cosines: jax.Array, label: jax.Array, *, scale: float, margin: float
) -> jax.Array:
    """ArcFace, float32 [B]: softmax cross-entropy with a wider angle to an image's own class.

    Deng et al. 2019, https://arxiv.org/abs/1801.07698. Where the wider angle would be above pi,
    the cosine falls on along its tangent, as in the authors' code.

    Args:
      cosines: of each embedding with each class, float32 [B, K].
      label: int32 [B].
      scale: of the logits.
      margin: in radians, 0 to pi.
    """

    def wider(own: jax.Array) -> jax.Array:
        sine = jnp.sqrt(jnp.maximum(1 - jnp.square(own), 1e-7))  # whose slope is infinite at 0
        turned = own * math.cos(margin) - sine * math.sin(margin)
        return jnp.where(own > -math.cos(margin), turned, own - margin * math.sin(margin))

    return _with_own(cosines, label, wider, scale)


def additive_cosine(
    cosines: jax.Array, label: jax.Array, *, scale: float, margin: float
) -> jax.Array:
    """CosFace, float32 [B]: softmax cross-entropy with a smaller cosine of an image's own class.

    Wang et al. 2018, https://arxiv.org/abs/1801.09414; arguments as of `additive_angular`, the
    margin in cosines.
    """
    return _with_own(cosines, label, lambda own: own - margin, scale)


def _with_own(
    cosines: jax.Array,
    label: jax.Array,
    changed: Callable[[jax.Array], jax.Array],
    scale: float,
) -> jax.Array:
    """Cross-entropy of scaled cosines, those of the images' own classes changed.

    By masks and sums, not by gathers: where each device holds some of the classes, logits stay.
    """
    is_own = jnp.arange(cosines.shape[1])[None] == label[:, None]
    own = changed(jnp.where(is_own, cosines, 0).sum(1))
    logits = scale * jnp.where(is_own, own[:, None], cosines)
    return jax.nn.logsumexp(logits, 1) - scale * own


def proxy_anchor(cosines: jax.Array, rows: Labels, *, scale: float, margin: float) -> jax.Array:
    """Of a whole batch, float32 []: each class's direction is an anchor.

    Equation 4 of Kim et al. 2020, https://arxiv.org/abs/2003.13911.

    Args:
      cosines: of each embedding with each class, float32 [B, K].
      rows: the same rows.
      scale: alpha.
      margin: delta.
    """
    own = rows.label[:, None] == jnp.arange(cosines.shape[1])[None]
    there = rows.mask[:, None]
    same = jnp.where(own & there, -scale * (cosines - margin), -_NEVER)
    other = jnp.where(~own & there, scale * (cosines + margin), -_NEVER)
    of_batch = (own & there).any(0)
    return _log_one_plus(same).sum() / jnp.maximum(of_batch.sum(), 1) + _log_one_plus(other).mean()


def _log_one_plus(exponents: jax.Array) -> jax.Array:
    """log(1 + the sum of exp over the rows), float32 [K], of [B, K]."""
    zero = jnp.zeros((1, exponents.shape[1]))
    return jax.nn.logsumexp(jnp.concatenate([zero, exponents]), 0)

"""Which object each anchor has to find."""

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.detection.boxes import pairwise_iou

BACKGROUND, IGNORED = -1, -2  # in place of the number of an object


def match_by_iou(
    boxes: jax.Array,
    valid: jax.Array,
    anchors: jax.Array,
    *,
    positive: float,
    negative: float,
    low_quality: bool,
) -> jax.Array:
    """The object of each anchor by their overlap, as torchvision's Matcher.

    Args:
      boxes: of the objects, [B, M, 4].
      valid: bool [B, M]; False: padding, which nothing is matched with.
      anchors: [A, 4], or those of each image [B, A, 4].
      positive: an anchor with at least this IoU has the object with the largest.
      negative: one with less than this has none; between the two it is ignored.
      low_quality: of the anchors with which an object overlaps most, and those that are as good,
        each has the object that it overlaps with most, however little that is.

    Returns:
      Numbers of objects int32 [B, A], or BACKGROUND or IGNORED.
    """
    anchors = jnp.asarray(anchors)
    iou = pairwise_iou(boxes, anchors if anchors.ndim == 3 else anchors[None])
    # As an array: computed twice it might round to two values, and the best not be found again.
    iou = jax.lax.optimization_barrier(jnp.where(valid[..., None], iou, -1.0))
    best, which = iou.max(1), iou.argmax(1).astype(jnp.int32)
    other = jnp.where(best < negative, BACKGROUND, IGNORED)
    matched = jnp.where(best >= positive, which, other)
    if low_quality:
        most = iou.max(2, keepdims=True)
        needed = ((iou == most) & (most > 0)).any(1)
        matched = jnp.where(needed, which, matched)
    return matched.astype(jnp.int32)


def match_best(
    boxes: jax.Array, valid: jax.Array, anchors: np.ndarray, *, positive: float
) -> jax.Array:
    """As `match_by_iou`, torchvision's SSDMatcher: the anchor that overlaps most with an object has
    it, whatever else it overlaps with; of two objects with one such anchor the later has it."""
    rule = {"positive": positive, "negative": positive, "low_quality": False}
    matched = match_by_iou(boxes, valid, anchors, **rule)
    best = pairwise_iou(boxes, jnp.asarray(anchors)[None]).argmax(2)  # [B, M]
    number = jnp.arange(boxes.shape[1], dtype=jnp.int32)
    mine = best[..., None] == jnp.arange(len(anchors))[None, None]
    forced = jnp.where(mine & valid[..., None], number[None, :, None], -1).max(1)
    return jnp.where(forced >= 0, forced, matched)


def of_matched(values: jax.Array, matched: jax.Array) -> jax.Array:
    """values [B, M, ...] of the object of each anchor [B, A, ...]; of none, that of number 0."""
    index = jnp.maximum(matched, 0)
    return jax.vmap(lambda value, at: value[at])(values, index)

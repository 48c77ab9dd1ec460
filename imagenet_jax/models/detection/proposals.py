"""The region proposal network (Ren et al. 2015, https://arxiv.org/abs/1506.01497)."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.detection.boxes import decode
from imagenet_jax.models.detection.nms import suppress
from imagenet_jax.models.detection.tower import said, tower
from imagenet_jax.models.layers.layers import Layers

_IOU = 0.7  # of two proposals of a map, one of which goes
_LEAST = 1e-3  # pixels of a side


class Proposals(NamedTuple):
    """Boxes that might have an object, the best ones first.

    Attributes:
      boxes: float32 [B, P, 4] in pixels of the input.
      valid: bool [B, P]; False: padding.
    """

    boxes: jax.Array
    valid: jax.Array


class _Head(nn.Module):
    """What `RPN` says."""

    anchors: int
    depth: int
    layers: Layers

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        names = [(f"conv.{number}.0", "") for number in range(self.depth)]
        maps = tower(maps, self.layers, names, bias=True)
        how = {"anchors": self.anchors, "kernel": 1}
        logits = said(maps, self.layers, "cls_logits", 1, **how)
        return logits[..., 0], said(maps, self.layers, "bbox_pred", 4, **how)


class RPN(nn.Module):
    """Whether each anchor has an object, and where that is.

    Attributes:
      anchors: of a place.
      depth: number of convolutions before the last ones.
      layers: see `layers.Layers`.
    """

    anchors: int
    depth: int = 1
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, A] and offsets float32 [B, A, 4]."""
        return _Head(self.anchors, self.depth, self.layers, name="head")(maps)


def proposed(
    logits: jax.Array,
    offsets: jax.Array,
    anchors: Sequence[np.ndarray],
    size: int,
    before: int,
    after: int,
    least: float = 0.0,
) -> Proposals:
    """The best boxes of what `RPN` says, without those that overlap; no gradient.

    Args:
      logits, offsets: of all anchors.
      anchors: of each map.
      size: height and width of the input in pixels.
      before: boxes of each map of which those that overlap are left out.
      after: boxes of an image.
      least: probability that there is an object, below which there is no box.
    """
    logits, offsets = jax.lax.stop_gradient((logits, offsets))
    ends = np.cumsum([len(level) for level in anchors])[:-1].tolist()
    parts = zip(jnp.split(logits, ends, 1), jnp.split(offsets, ends, 1), anchors, strict=True)
    found = [_of_map(*part, size, before, least) for part in parts]
    boxes, scores = (jnp.concatenate(part, 1) for part in zip(*found, strict=True))
    best, place = jax.lax.top_k(scores, min(after, scores.shape[1]))
    return Proposals(jax.vmap(lambda box, at: box[at])(boxes, place), best > -jnp.inf)


def _of_map(
    logits: jax.Array,
    offsets: jax.Array,
    anchors: np.ndarray,
    size: int,
    before: int,
    least: float,
) -> tuple[jax.Array, jax.Array]:
    """Boxes [B, n, 4] and scores [B, n] of a map; minus infinity for those that are left out."""
    scores, place = jax.lax.top_k(logits, min(before, len(anchors)))
    offsets = jax.vmap(lambda values, at: values[at])(offsets, place)
    boxes = jnp.clip(decode(offsets, jnp.asarray(anchors, offsets.dtype)[place]), 0, size)
    valid = (boxes[..., 2:] - boxes[..., :2] >= _LEAST).all(-1)
    valid &= jax.nn.sigmoid(scores) >= least
    one = jnp.zeros(len(anchors[:before]), jnp.int32)
    keep = jax.vmap(partial(suppress, classes=one, threshold=_IOU))
    kept = keep(boxes, valid=valid)
    return boxes, jnp.where(kept, scores, -jnp.inf)

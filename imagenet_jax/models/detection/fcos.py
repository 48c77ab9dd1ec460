"""FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355; 2020, 2006.09214), as torchvision's."""

import dataclasses
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imagenet_jax.models.detection.anchors import cell_anchors, grid_anchors
from imagenet_jax.models.detection.boxes import (
    area,
    decode_distances,
    encode_distances,
    generalized_iou,
)
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.matching import BACKGROUND, of_matched
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.one_stage import OneStage
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.models.detection.tower import PRIOR, said, tower
from imagenet_jax.models.layers.layers import Layers

_RADIUS = 1.5  # times the stride: how near an object's centre a place is that has it
_REACH = 4, 8  # times the stride: range of the largest distance to an edge
_NAMES = [(f"conv.{3 * k}", f"conv.{3 * k + 1}") for k in range(4)]


class _Classes(nn.Module):
    """Logits of the classes at each place."""

    num_classes: int
    layers: Layers

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
        maps = tower(maps, self.layers, _NAMES, bias=True)
        prior = -math.log((1 - PRIOR) / PRIOR)
        return said(maps, self.layers, "cls_logits", self.num_classes, bias=prior)


class _Boxes(nn.Module):
    """Distances to the edges at each place, and the logit of how near the centre it is."""

    layers: Layers

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        maps = tower(maps, self.layers, _NAMES, bias=True)
        distances = said(maps, self.layers, "bbox_reg", 4, act=nn.relu)
        return distances, said(maps, self.layers, "bbox_ctrness", 1)


class FCOSHead(nn.Module):
    """Two towers, of classes and of boxes, which all maps share.

    Attributes:
      num_classes: K.
      layers: see `layers.Layers`.
    """

    num_classes: int
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> Outputs:
        """cls_logits [B, A, K], bbox_regression [B, A, 4] and bbox_ctrness [B, A, 1], float32."""
        del train
        logits = _Classes(self.num_classes, self.layers, name="classification_head")(maps)
        distances, centres = _Boxes(self.layers, name="regression_head")(maps)
        return {"cls_logits": logits, "bbox_regression": distances, "bbox_ctrness": centres}


@dataclasses.dataclass(frozen=True)
class FCOS(OneStage):
    """A box at each place: no anchors but the places themselves, squares as large as the stride."""

    terms = dict.fromkeys(("classification", "bbox_regression", "bbox_ctrness"), "positives")
    choice = Choice(score=0.2, iou=0.6, candidates=1000, most=100)

    def head(self, layers: Layers) -> FCOSHead:
        return FCOSHead(self.num_classes, layers, name="head")

    def anchors(self, size: int) -> list[np.ndarray]:
        cells = [cell_anchors([stride], [1.0]) for stride in self.strides]
        return grid_anchors(size, self.strides, cells)

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        """The smallest object of those that a place is in, near the centre of, and as far from the
        edges of as its map is for."""
        levels = self.anchors(size)
        anchors = np.concatenate(levels)
        # [1, A, 1], against objects [B, 1, M].
        side = (anchors[:, 2] - anchors[:, 0])[None, :, None]
        x, y = ((anchors[:, k] + anchors[:, k + 2])[None, :, None] / 2 for k in (0, 1))
        left, top, right, bottom = jnp.moveaxis(boxes[:, None], -1, 0)
        near = jnp.maximum(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
        distances = jnp.stack([x - left, y - top, right - x, bottom - y])
        shortest, longest = distances.min(0), distances.max(0)
        low, high = (np.array(side * factor) for factor in _REACH)
        low[:, : len(levels[0])], high[:, -len(levels[-1]) :] = 0, np.inf
        has = (near < _RADIUS * side) & (shortest > 0) & (longest > low) & (longest < high)
        has &= (classes >= 0)[:, None]
        areas = jnp.where(has, area(boxes)[:, None], jnp.inf)
        which = areas.argmin(2).astype(jnp.int32)
        return jnp.where(has.any(2), which, BACKGROUND)

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        """Focal loss of the classes, generalized IoU of the boxes, and how near the centre."""
        logits, positive = outputs["cls_logits"], matched >= 0
        anchors = jnp.asarray(np.concatenate(self.anchors(size)), logits.dtype)[None]
        # Places without an object stand for themselves, so that nothing is infinite there.
        there = jnp.where(positive[..., None], of_matched(boxes, matched), anchors)
        apart = 1 - generalized_iou(decode_distances(outputs["bbox_regression"], anchors), there)
        left, top, right, bottom = jnp.moveaxis(encode_distances(there, anchors), -1, 0)
        across = jnp.minimum(left, right) / jnp.maximum(left, right)
        along = jnp.minimum(top, bottom) / jnp.maximum(top, bottom)
        centre = jnp.sqrt(across * along)
        said_centre = outputs["bbox_ctrness"][..., 0]
        off_centre = optax.sigmoid_binary_cross_entropy(said_centre, centre)
        return {
            "classification": self.focal_loss(logits, classes, matched),
            "bbox_regression": jnp.where(positive, apart, 0).sum(1),
            "bbox_ctrness": jnp.where(positive, off_centre, 0).sum(1),
        }

    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        """With the geometric mean of the class's and the centre's probability as score."""
        anchors = jnp.asarray(np.concatenate(self.anchors(size)))[None]
        boxes = decode_distances(outputs["bbox_regression"], anchors)
        both = jax.nn.sigmoid(outputs["cls_logits"]) * jax.nn.sigmoid(outputs["bbox_ctrness"])
        return RawBoxes(jnp.clip(boxes, 0, size), jnp.sqrt(both))

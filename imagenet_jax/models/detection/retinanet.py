"""RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002), as torchvision's two versions."""

import dataclasses
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.detection.anchors import cell_anchors, grid_anchors
from imagenet_jax.models.detection.boxes import decode, encode, generalized_iou
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.matching import match_by_iou, of_matched
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.one_stage import OneStage
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.models.detection.tower import PRIOR, said, tower
from imagenet_jax.models.layers.layers import Layers

_RATIOS = (0.5, 1.0, 2.0)
_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
_DEPTH = 4  # convolutions before the last one


class _Branch(nn.Module):
    """What is said of each anchor, `values` numbers."""

    last: str
    values: int
    anchors: int
    bias: float
    norm: bool
    layers: Layers

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
        names = [(f"conv.{k}.0", f"conv.{k}.1" if self.norm else "") for k in range(_DEPTH)]
        maps = tower(maps, self.layers, names, bias=not self.norm)
        return said(maps, self.layers, self.last, self.values, self.anchors, self.bias)


class RetinaNetHead(nn.Module):
    """Two towers, of classes and of boxes, which all maps share.

    Attributes:
      num_classes: K.
      norm: whether there are group norms (version 2).
      layers: see `layers.Layers`.
    """

    num_classes: int
    norm: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> Outputs:
        """cls_logits [B, A, K] and bbox_regression [B, A, 4], float32."""
        del train
        anchors, how = len(_RATIOS) * len(_SCALES), {"norm": self.norm, "layers": self.layers}
        prior = -math.log((1 - PRIOR) / PRIOR)
        classes = _Branch(
            "cls_logits", self.num_classes, anchors, prior, name="classification_head", **how
        )
        boxes = _Branch("bbox_reg", 4, anchors, 0.0, name="regression_head", **how)
        return {"cls_logits": classes(maps), "bbox_regression": boxes(maps)}


@dataclasses.dataclass(frozen=True)
class RetinaNet(OneStage):
    """Nine anchors a place, focal loss of the classes, L1 loss of the offsets of boxes."""

    terms = dict.fromkeys(("classification", "bbox_regression"), "images")
    own_anchor_scale = 4
    choice = Choice(score=0.05, iou=0.5, candidates=1000, most=300)

    def head(self, layers: Layers) -> RetinaNetHead:
        return RetinaNetHead(self.num_classes, layers=layers, name="head")

    def anchors(self, size: int) -> list[np.ndarray]:
        smallest = [self.scale * stride for stride in self.strides]
        sizes = [[int(side * scale) for scale in _SCALES] for side in smallest]
        return grid_anchors(size, self.strides, [cell_anchors(each, _RATIOS) for each in sizes])

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        anchors = np.concatenate(self.anchors(size))
        rule = {"positive": 0.5, "negative": 0.4, "low_quality": True}
        return match_by_iou(boxes, classes >= 0, anchors, **rule)

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        """Of each image over the number of its positive anchors, as the paper has it."""
        logits, positive = outputs["cls_logits"], matched >= 0
        focal = self.focal_loss(logits, classes, matched)
        anchors = jnp.asarray(np.concatenate(self.anchors(size)), logits.dtype)[None]
        # Anchors without an object stand for themselves, so that nothing is infinite there.
        there = jnp.where(positive[..., None], of_matched(boxes, matched), anchors)
        apart = self.apart(outputs["bbox_regression"], there, anchors)
        regression = jnp.where(positive, apart, 0).sum(1)
        count = jnp.maximum(positive.sum(1), 1)
        return {"classification": focal / count, "bbox_regression": regression / count}

    def apart(self, offsets: jax.Array, boxes: jax.Array, anchors: jax.Array) -> jax.Array:
        """How far offsets [B, A, 4] are from those of boxes [B, A, 4]; [B, A]."""
        return jnp.abs(offsets - encode(boxes, anchors)).sum(-1)

    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        anchors = jnp.asarray(np.concatenate(self.anchors(size)))[None]
        boxes = jnp.clip(decode(outputs["bbox_regression"], anchors), 0, size)
        return RawBoxes(boxes, jax.nn.sigmoid(outputs["cls_logits"]))


@dataclasses.dataclass(frozen=True)
class RetinaNetV2(RetinaNet):
    """With group norms, and the generalized IoU of boxes as their loss (torchvision's v2)."""

    extra_from_last = True

    def head(self, layers: Layers) -> RetinaNetHead:
        return RetinaNetHead(self.num_classes, norm=True, layers=layers, name="head")

    def apart(self, offsets: jax.Array, boxes: jax.Array, anchors: jax.Array) -> jax.Array:
        return 1 - generalized_iou(decode(offsets, anchors), boxes)

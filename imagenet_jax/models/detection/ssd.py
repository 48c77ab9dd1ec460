"""SSD (Liu et al. 2016, https://arxiv.org/abs/1512.02325), as torchvision's.

And SSDLite (Sandler et al. 2018, https://arxiv.org/abs/1801.04381, section 6.2).
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.detection.anchors import map_sides
from imagenet_jax.models.detection.boxes import decode, encode
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.matching import BACKGROUND, match_best, of_matched
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.one_stage import OneStage
from imagenet_jax.models.detection.ssd_maps import SSDLiteMaps, SSDMaps
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.models.detection.tower import joined
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.mobilenet import MobileNetV3, conv_norm_act
from imagenet_jax.models.vgg import VGG

_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the offsets
_IOU = 0.5  # from which on an anchor has an object
_NEGATIVES = 3  # anchors without an object, for each with one
_xavier = nn.initializers.xavier_uniform()
_normal = nn.initializers.normal(0.03)


class _Module(nn.Module):
    """A convolution of its own for each map: values [B, A, n] of all anchors."""

    values: int
    counts: Sequence[int]
    is_lite: bool
    layers: Layers

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        found = []
        for number, (x, count) in enumerate(zip(maps, self.counts, strict=True)):
            name, kernel, init = f"module_list.{number}", 3, _xavier
            if self.is_lite:
                how = {"kernel": 3, "groups": x.shape[-1], "act": nn.relu6, "init": _normal}
                own = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.97)
                x = conv_norm_act(own, x, train, x.shape[-1], name=f"{name}.0", **how)
                name, kernel, init = f"{name}.1", 1, _normal
            how = {"bias": True, "init": init, "name": name}
            found.append(self.layers.conv(self.values * count, kernel, **how)(x))
        return joined(found, self.layers, self.values)


class SSDHead(nn.Module):
    """A convolution for each map, of classes and of boxes.

    Attributes:
      num_classes: K.
      counts: anchors of a place of each map.
      is_lite: whether the convolutions are depthwise, with norms, and 1x1.
      layers: see `layers.Layers`.
    """

    num_classes: int
    counts: Sequence[int]
    is_lite: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> Outputs:
        """cls_logits [B, A, K + 1], 0 being the background, and bbox_regression [B, A, 4]."""
        how = (self.counts, self.is_lite, self.layers)
        classes = _Module(self.num_classes + 1, *how, name="classification_head")
        boxes = _Module(4, *how, name="regression_head")
        return {"cls_logits": classes(maps, train), "bbox_regression": boxes(maps, train)}


@dataclasses.dataclass(frozen=True)
class _SingleShot(OneStage):
    """Anchors of several shapes, a background class, and hard negatives.

    `strides` are those of the two maps of the backbone; there are four more of them.
    """

    terms = dict.fromkeys(("bbox_regression", "classification"), "positives")
    has_fpn = False
    has_background = True
    # torchvision's candidates are the best 400 of each class, the same ones unless there are many.
    joins_maps = True
    # Sizes of anchors as shares of the image's side, of each map and of one beyond the last;
    # their ratios beside 1; whether the layers are those of SSDLite.
    shares: ClassVar[Sequence[float]]
    ratios: ClassVar[Sequence[Sequence[float]]]
    is_lite: ClassVar[bool] = False

    def head(self, layers: Layers) -> SSDHead:
        counts = tuple(2 + 2 * len(ratios) for ratios in self.ratios)
        return SSDHead(self.num_classes, counts, self.is_lite, layers, name="head")

    @abc.abstractmethod
    def steps(self, size: int) -> list[float]:
        """Pixels between the places of each map."""

    def anchors(self, size: int) -> list[np.ndarray]:
        """torchvision's DefaultBoxGenerator."""
        levels, sides = [], self.map_sides(size)
        for number, (side, step) in enumerate(zip(sides, self.steps(size), strict=True)):
            centres = ((np.arange(side, dtype=np.float32) + 0.5) / np.float32(size / step)) * size
            y, x = np.meshgrid(centres, centres, indexing="ij")
            middle = np.stack([x, y], -1).reshape(-1, 1, 2)
            half = np.clip(self._shapes(number), 0, 1)[None] * size / 2
            boxes = np.concatenate([middle - half, middle + half], -1)
            levels.append(boxes.reshape(-1, 4).astype(np.float32))
        return levels

    def _shapes(self, number: int) -> np.ndarray:
        """Widths and heights of the anchors of a map, as shares, [n, 2]."""
        share = self.shares[number]
        between = math.sqrt(share * self.shares[number + 1])
        shapes = [(share, share), (between, between)]
        for ratio in self.ratios[number]:
            wide, narrow = share * math.sqrt(ratio), share / math.sqrt(ratio)
            shapes += [(wide, narrow), (narrow, wide)]
        return np.array(shapes, np.float32)

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        anchors = np.concatenate(self.anchors(size))
        return match_best(boxes, classes >= 0, anchors, positive=_IOU)

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        """Smooth L1 of the offsets, cross-entropy of the classes of anchors with an object and of
        three times as many of the others, those with the highest."""
        logits, positive = outputs["cls_logits"], matched >= 0
        anchors = jnp.asarray(np.concatenate(self.anchors(size)), logits.dtype)[None]
        there = jnp.where(positive[..., None], of_matched(boxes, matched), anchors)
        targets = encode(there, jnp.broadcast_to(anchors, there.shape), _WEIGHTS)
        apart = optax.huber_loss(outputs["bbox_regression"], targets).sum(-1)
        labels = jnp.where(positive, of_matched(classes, matched) + 1, 0)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        hard = jax.lax.stop_gradient(jnp.where(matched == BACKGROUND, entropy, -jnp.inf))
        rank = jnp.argsort(jnp.argsort(-hard, 1), 1)
        counts = positive | (rank < _NEGATIVES * positive.sum(1, keepdims=True))
        return {
            "bbox_regression": jnp.where(positive, apart, 0).sum(1),
            "classification": jnp.where(counts, entropy, 0).sum(1),
        }

    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        offsets = outputs["bbox_regression"]
        anchors = jnp.asarray(np.concatenate(self.anchors(size)), offsets.dtype)[None]
        boxes = jnp.clip(decode(offsets, anchors, _WEIGHTS), 0, size)
        return RawBoxes(boxes, jax.nn.softmax(outputs["cls_logits"], -1)[..., 1:])


@dataclasses.dataclass(frozen=True)
class SSD(_SingleShot):
    """SSD300 on VGG-16, or another backbone with maps of strides 8 and 16."""

    own_strides: ClassVar[tuple[int, ...]] = (8, 16)
    choice = Choice(score=0.01, iou=0.45, candidates=1000, most=200)
    shares = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))

    def pyramid(self, backbone: Backbone, features: int) -> SSDMaps:
        if isinstance(backbone, VGG):
            backbone = backbone.clone(ceil_pool=True)
        return SSDMaps(backbone, self.maps_of(backbone), backbone.layers)

    def map_sides(self, size: int) -> list[int]:
        first, second = map_sides(size, self.strides)
        last = map_sides(second, (2, 4))
        return [first, second, *last, last[1] - 2, last[1] - 4]

    def steps(self, size: int) -> list[float]:
        sides = self.map_sides(size)
        strides = [self.strides[0] * 2**number for number in range(4)]
        return [*strides, *(size / side for side in sides[4:])]


@dataclasses.dataclass(frozen=True)
class SSDLite(_SingleShot):
    """SSDLite320 on MobileNetV3, or another backbone with maps of strides 16 and 32."""

    own_strides: ClassVar[tuple[int, ...]] = (16, 32)
    choice = Choice(score=0.001, iou=0.55, candidates=1000, most=300)
    shares = (*(0.2 + 0.15 * number for number in range(6)), 1.0)
    ratios = ((2, 3),) * 6
    is_lite = True

    def pyramid(self, backbone: Backbone, features: int) -> SSDLiteMaps:
        return SSDLiteMaps(backbone, self.maps_of(backbone), backbone.layers)

    def maps_of(self, backbone: Backbone) -> tuple[str, ...]:
        own = isinstance(backbone, MobileNetV3) and self.strides == self.own_strides
        return backbone.detector_maps if own else super().maps_of(backbone)

    def map_sides(self, size: int) -> list[int]:
        return map_sides(size, [self.strides[0] * 2**number for number in range(6)])

    def steps(self, size: int) -> list[float]:
        return [size / side for side in self.map_sides(size)]

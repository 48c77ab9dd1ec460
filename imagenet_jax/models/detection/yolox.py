"""YOLOX (Ge et al. 2021, https://arxiv.org/abs/2107.08430), as in its code."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.darknet import ConvNormAct, CSPDarknet, conv3x3
from imagenet_jax.models.detection.boxes import area, intersection, pairwise_iou
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.matching import BACKGROUND, of_matched
from imagenet_jax.models.detection.method import WIDTH, Outputs
from imagenet_jax.models.detection.one_stage import OneStage
from imagenet_jax.models.detection.pafpn import PAFPN
from imagenet_jax.models.detection.suppression import RawBoxes
from imagenet_jax.models.detection.tower import PRIOR, joined
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers

_RADIUS = 1.5  # times the stride: how near an object's centre a place is that may have it
_BEST = 10  # places whose overlaps with an object say how many have it
_IOU_COST, _ELSEWHERE, _NEVER = 3.0, 1e6, 1e9  # of a pair of a place and an object
_BOX_WEIGHT = 5.0
_LARGEST = math.log(1000 / 16)  # of a logarithm of sides, before exp
_USUAL = 5.0  # places that have an object, where an image says nothing of it as it has none


class YOLOXHead(nn.Module):
    """A stem and two towers of each map's own.

    Attributes:
      num_classes: K.
      features: channels of the towers.
      depthwise: whether 3x3 convolutions are depthwise.
      layers: see `layers.Layers`.
    """

    num_classes: int
    features: int
    depthwise: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> Outputs:
        """cls_logits [B, A, K], bbox_regression [B, A, 4] and objectness [B, A, 1], float32."""
        layers = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.97)
        prior = -math.log((1 - PRIOR) / PRIOR)
        said: dict[str, list[jax.Array]] = {"cls": [], "reg": [], "obj": []}
        for number, x in enumerate(maps):
            x = ConvNormAct(self.features, 1, layers, name=f"stems.{number}")(x, train)
            towers = {}
            for kind in ("cls", "reg"):
                y = x
                for step in range(2):
                    name = f"{kind}_convs.{number}.{step}"
                    y = conv3x3(self.features, self.depthwise, layers, name=name)(y, train)
                towers[kind] = y
            outputs = (("cls", self.num_classes, prior), ("reg", 4, 0.0), ("obj", 1, prior))
            for kind, values, bias in outputs:
                init = nn.initializers.constant(bias)
                how = {"bias": True, "init": torch_default, "bias_init": init}
                last = layers.conv(values, 1, name=f"{kind}_preds.{number}", **how)
                said[kind].append(last(towers["cls" if kind == "cls" else "reg"]))
        return {
            "cls_logits": joined(said["cls"], layers, self.num_classes),
            "bbox_regression": joined(said["reg"], layers, 4),
            "objectness": joined(said["obj"], layers, 1),
        }


@dataclasses.dataclass(frozen=True)
class YOLOX(OneStage):
    """A box at each place; which places have an object depends on what is said there (SimOTA).

    So the number of these is not known from the data, and the loss, which YOLOX divides by that of
    all images of a batch, is divided by that of each image here, and its mean over the images is
    weighted by their numbers of objects.

    Attributes:
      features: channels of the towers and of the first map; 0: of a pyramid that is yet to be made.
      depthwise: whether 3x3 convolutions are depthwise.
    """

    features: int = 0
    depthwise: bool = False

    has_fpn = False
    own_strides: ClassVar[tuple[int, ...]] = (8, 16, 32)
    terms = dict.fromkeys(("loss_iou", "loss_obj", "loss_cls"), "all_objects")
    choice = Choice(score=0.01, iou=0.65, candidates=1000, most=100)
    one_class = True

    def of_backbone(self, backbone: Backbone, features: int) -> "YOLOX":
        """With the width and the kind of convolutions that its own backbones have."""
        if not isinstance(backbone, CSPDarknet):
            return dataclasses.replace(self, features=features)
        own = 4 * backbone.width
        if features not in (own, WIDTH):
            raise ConfigError(
                f"config.model.fpn_width = {features}: yolox has {own} channels on this backbone"
            )
        return dataclasses.replace(self, features=own, depthwise=backbone.depthwise)

    def pyramid(self, backbone: Backbone, features: int) -> PAFPN:
        names = self.maps_of(backbone)
        if len(names) != 3:
            raise ConfigError(
                f"config.model.fpn_strides = {self.strides}: yolox has three maps of the backbone"
            )
        blocks = backbone.blocks if isinstance(backbone, CSPDarknet) else 1
        how = (self.features, blocks, self.depthwise, backbone.layers)
        return PAFPN(backbone, names, *how)

    def head(self, layers: Layers) -> YOLOXHead:
        how = (self.num_classes, self.features, self.depthwise, layers)
        return YOLOXHead(*how, name="head")

    def anchors(self, size: int) -> list[np.ndarray]:
        """The places, squares as large as the stride."""
        levels = []
        for side, stride in zip(self.map_sides(size), self.strides, strict=True):
            y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
            low = np.stack([x, y], -1).reshape(-1, 2) * stride
            levels.append(np.concatenate([low, low + stride], 1).astype(np.float32))
        return levels

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        """An object whose centre is near, for each place: it, or another such one, may have it."""
        near = _near(boxes, classes, np.concatenate(self.anchors(size)))
        which = near.argmax(1).astype(jnp.int32)
        return jnp.where(near.any(1), which, BACKGROUND)

    def denominators(
        self, matched: jax.Array, classes: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """all_objects: those of all images."""
        del matched
        count = jnp.where(mask, (classes >= 0).sum(1), 0)
        return {"all_objects": count.sum(dtype=jnp.float32)}

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        del matched
        anchors = np.concatenate(self.anchors(size))
        found = self._boxes(outputs["bbox_regression"], anchors)
        logits, objectness = outputs["cls_logits"], outputs["objectness"]
        which, iou = jax.lax.stop_gradient(
            assigned(found, logits, objectness[..., 0], boxes, classes, anchors)
        )
        has = which >= 0
        there = jnp.where(has[..., None], of_matched(boxes, which), found)
        overlap = _iou(found, there)
        labels = jax.nn.one_hot(of_matched(classes, which), self.num_classes, dtype=logits.dtype)
        entropy = optax.sigmoid_binary_cross_entropy(logits, labels * iou[..., None]).sum(-1)
        whether = optax.sigmoid_binary_cross_entropy(objectness[..., 0], has.astype(logits.dtype))
        objects, places = (classes >= 0).sum(1), has.sum(1)
        each = jnp.where(places > 0, objects / jnp.maximum(places, 1), 1 / _USUAL)
        return {
            "loss_iou": _BOX_WEIGHT * jnp.where(has, 1 - overlap**2, 0).sum(1) * each,
            "loss_obj": whether.sum(1) * each,
            "loss_cls": jnp.where(has, entropy, 0).sum(1) * each,
        }

    @staticmethod
    def _boxes(said: jax.Array, anchors: np.ndarray) -> jax.Array:
        """The boxes [B, A, 4] that are said relative to places."""
        low, stride = jnp.asarray(anchors[:, :2])[None], (anchors[:, 2:3] - anchors[:, :1])[None]
        centre = low + said[..., :2] * stride
        half = jnp.exp(jnp.minimum(said[..., 2:], _LARGEST)) * stride / 2
        return jnp.concatenate([centre - half, centre + half], -1)

    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        """The score is that of the class and of any object."""
        boxes = self._boxes(outputs["bbox_regression"], np.concatenate(self.anchors(size)))
        scores = jax.nn.sigmoid(outputs["cls_logits"]) * jax.nn.sigmoid(outputs["objectness"])
        return RawBoxes(jnp.clip(boxes, 0, size), scores)


def _near(boxes: jax.Array, classes: jax.Array, anchors: np.ndarray) -> jax.Array:
    """Whether a place is near the centre of an object, bool [B, M, A]."""
    centres, stride = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2] - anchors[:, 0]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    apart = jnp.abs(middle[:, :, None] - centres[None, None]).max(-1)
    return (apart < _RADIUS * stride[None, None]) & (classes >= 0)[..., None]


def _iou(one: jax.Array, other: jax.Array) -> jax.Array:
    """Intersection over union [...] of boxes [..., 4], as many of each."""
    common = intersection(one, other)
    return common / (area(one) + area(other) - common + 1e-16)


def assigned(
    found: jax.Array,
    logits: jax.Array,
    objectness: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    anchors: np.ndarray,
) -> tuple[jax.Array, jax.Array]:
    """SimOTA: which object each place has, int32 [B, A], and how much its box overlaps with it.

    An object has as many places as the overlaps of the ten best say, those of the least cost: of
    the logarithm of the overlap and of the entropy of the class. A place that several objects want
    goes to the cheapest.

    Args:
      found: the boxes that are said, [B, A, 4].
      logits: of the classes, [B, A, K].
      objectness: logits [B, A].
      boxes, classes: of the objects, [B, M, 4] and [B, M], negative classes being padding.
      anchors: the places, [A, 4].
    """
    near = _near(boxes, classes, anchors)
    one_image = partial(_assigned_of_image, classes_of=logits.shape[-1])
    return jax.vmap(one_image)(found, logits, objectness, boxes, classes, near)


def _assigned_of_image(
    found: jax.Array,
    logits: jax.Array,
    objectness: jax.Array,
    boxes: jax.Array,
    classes: jax.Array,
    near: jax.Array,
    classes_of: int,
) -> tuple[jax.Array, jax.Array]:
    may = near.any(0)
    iou = jnp.where(may[None] & (classes >= 0)[:, None], pairwise_iou(boxes, found), 0)
    chance = jnp.sqrt(jax.nn.sigmoid(logits) * jax.nn.sigmoid(objectness)[:, None])
    # torch's binary cross-entropy, which cuts logarithms at -100.
    yes, no = (-jnp.maximum(jnp.log(part), -100.0) for part in (chance, 1 - chance))
    wanted = jax.nn.one_hot(classes, classes_of, dtype=chance.dtype)
    entropy = no.sum(1)[None] + wanted @ (yes - no).T
    cost = entropy - _IOU_COST * jnp.log(iou + 1e-8) + _ELSEWHERE * ~near
    # As arrays: computed twice they might round to two values, and the last of the best be lost.
    cost, iou = jax.lax.optimization_barrier((jnp.where(may[None], cost, _NEVER), iou))
    count = min(_BEST, iou.shape[1])
    places = jnp.maximum(jax.lax.top_k(iou, count)[0].sum(1).astype(jnp.int32), 1)
    least = -jax.lax.top_k(-cost, count)[0]
    limit = jnp.take_along_axis(least, places[:, None] - 1, 1)
    mine = (cost <= limit) & may[None] & (classes >= 0)[:, None]
    wanted_by = mine.sum(0)
    cheapest = jnp.where((classes >= 0)[:, None], cost, jnp.inf).argmin(0)
    which = jnp.where(wanted_by > 1, cheapest, mine.argmax(0)).astype(jnp.int32)
    which = jnp.where(wanted_by > 0, which, BACKGROUND)
    return which, jnp.take_along_axis(iou, jnp.maximum(which, 0)[None], 0)[0]

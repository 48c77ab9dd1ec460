"""DETR (Carion et al. 2020, https://arxiv.org/abs/2005.12872): a set of boxes, no anchors and no
suppression; each object is matched with one of the boxes, by the Hungarian algorithm."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.detection.boxes import generalized_iou
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.detr_transformer import Queries, Transformer, linear
from imagenet_jax.models.detection.matching import BACKGROUND, of_matched
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.suppression import RawBoxes, SuppressesLast
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers

_NOTHING = 0.1  # weight of "no object" in the loss of classes
_L1, _GIOU = 5.0, 2.0  # of the costs of a match, and of the losses
_NEVER = 1e6  # the cost of a box that is no number


class LastMap(nn.Module):
    """One map of a backbone."""

    body: Backbone
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> list[jax.Array]:
        """The map of images [B, S, S, 3], in a list."""
        return [self.body.features(image, train, self.names)[self.names[0]]]


@dataclasses.dataclass(frozen=True)
class DETR(SuppressesLast):
    """Boxes of learnt queries. Images are squares here, and what is beside a photo in one is seen
    as the photo is: there is no mask.

    Attributes:
      features: channels of the transformer.
      queries: boxes of an image.
      depth: layers of the encoder, and of the decoder, each of which is trained.
      heads: of the attention.
    """

    features: int = 256
    queries: int = 100
    depth: int = 6
    heads: int = 8

    has_fpn = False
    own_strides: ClassVar[tuple[int, ...]] = (32,)
    terms = {"loss_ce": "queries"} | dict.fromkeys(("loss_bbox", "loss_giou"), "all_objects")
    choice = Choice(score=0.0, iou=1.0, candidates=1000, most=100)
    one_class = True

    def of_backbone(self, backbone: Backbone, features: int) -> "DETR":
        """With a transformer of so many channels. Raises ConfigError."""
        if features % (4 * self.heads):
            raise ConfigError(
                f"config.model.fpn_width = {features} is no multiple of {4 * self.heads}, which "
                f"detr's {self.heads} heads need"
            )
        return dataclasses.replace(self, features=features)

    def pyramid(self, backbone: Backbone, features: int) -> LastMap:
        names = self.maps_of(backbone)
        if len(names) != 1:
            raise ConfigError(f"config.model.fpn_strides = {self.strides}: detr has one map")
        return LastMap(backbone, names)

    def outputs(
        self,
        maps: Sequence[jax.Array],
        layers: Layers,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        """cls_logits [B, L, Q, K + 1], the last being that of no object, and boxes [B, L, Q, 4],
        their centres and sides as shares of the input's; L layers in training, else one."""
        del size, targets
        how = {"bias": True, "init": torch_default, "name": "input_proj"}
        x = layers.conv(self.features, 1, **how)(maps[0])
        queries = Queries(self.queries, self.features, name="query_embed")()
        transformer = Transformer(
            self.depth, self.heads, 8 * self.features, layers, name="transformer"
        )
        x = transformer(x, queries, train)
        y = x
        for number in range(2):
            y = nn.relu(linear(layers, self.features, f"bbox_embed.layers.{number}")(y))
        boxes = linear(layers, 4, "bbox_embed.layers.2")(y)
        boxes = jax.nn.sigmoid(boxes.astype(wide(boxes.dtype)))
        head = layers.head(self.num_classes + 1, name="class_embed", init=torch_default)
        return {"cls_logits": head(x), "boxes": boxes}

    def anchors(self, size: int) -> list[np.ndarray]:
        """There are none: squares of no area, as many as queries."""
        return [np.zeros((self.queries, 4), np.float32)]

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        """Nothing: what a query has depends on what it says."""
        return jnp.full((len(boxes), self.queries), BACKGROUND, jnp.int32)

    def denominators(
        self, matched: jax.Array, classes: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """queries: those of all images, those without an object as a tenth; all_objects."""
        del matched
        objects = (classes >= 0).sum(1)
        weights = objects + _NOTHING * (self.queries - objects)
        return {
            "queries": jnp.where(mask, weights, 0).sum(dtype=jnp.float32),
            "all_objects": jnp.where(mask, objects, 0).sum(dtype=jnp.float32),
        }

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        """The sums over the layers of the decoder."""
        del matched
        logits, found = outputs["cls_logits"], outputs["boxes"]
        layers = logits.shape[1]
        wanted = jnp.concatenate(
            [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1
        )
        wanted = jnp.repeat((wanted / size)[:, None], layers, 1)
        labels = jnp.repeat(classes[:, None], layers, 1)
        each = jax.vmap(jax.vmap(self._assigned))
        which = each(*jax.lax.stop_gradient((logits, found, wanted)), labels)
        has = which >= 0
        there = jax.vmap(of_matched)(wanted, which)
        label = jnp.where(has, jax.vmap(of_matched)(labels, which), self.num_classes)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        apart = jnp.abs(found - there).sum(-1)
        overlap = generalized_iou(_corners(found), _corners(there))
        return {
            "loss_ce": (jnp.where(has, 1, _NOTHING) * entropy).sum((1, 2)),
            "loss_bbox": _L1 * jnp.where(has, apart, 0).sum((1, 2)),
            "loss_giou": _GIOU * jnp.where(has, 1 - overlap, 0).sum((1, 2)),
        }

    def _assigned(
        self, logits: jax.Array, found: jax.Array, wanted: jax.Array, classes: jax.Array
    ) -> jax.Array:
        """The object of each query int32 [Q], or -1, by the Hungarian algorithm.

        Args:
          logits: [Q, K + 1].
          found, wanted: boxes [Q, 4] and [M, 4], their centres and sides.
          classes: of the objects, int32 [M], negative: padding.
        """
        if len(wanted) > self.queries:
            raise ConfigError(
                f"config.data.max_objects = {len(wanted)}: detr tells {self.queries} boxes of an "
                "image; lower it"
            )
        chance = jax.nn.softmax(logits)[:, jnp.maximum(classes, 0)].T
        apart = jnp.abs(wanted[:, None] - found[None]).sum(-1)
        overlap = generalized_iou(_corners(wanted)[:, None], _corners(found)[None])
        cost = _L1 * apart - _GIOU * overlap - chance
        # Padding takes what is left; and what is no number must not keep the algorithm from ending.
        there = (classes >= 0)[:, None]
        cost = jnp.where(there, jnp.nan_to_num(cost, nan=_NEVER, posinf=_NEVER), 0)
        objects, queries = optax.assignment.hungarian_algorithm(cost)
        objects = jnp.where(classes[objects] >= 0, objects, BACKGROUND).astype(jnp.int32)
        return jnp.full(self.queries, BACKGROUND, jnp.int32).at[queries].set(objects)

    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        """Those of all queries."""
        scores = jax.nn.softmax(outputs["cls_logits"][:, -1])[..., :-1]
        return RawBoxes(jnp.clip(size * _corners(outputs["boxes"][:, -1]), 0, size), scores)


def _corners(boxes: jax.Array) -> jax.Array:
    """Left, top, right and bottom of boxes [..., 4] given by their centres and sides."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)

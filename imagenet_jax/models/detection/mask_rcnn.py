"""Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870) with FPN, as torchvision's."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.models.detection.detections import Choice, Detections
from imagenet_jax.models.detection.faster_rcnn import WITH_OBJECT, FasterRCNN, FasterRCNNV2
from imagenet_jax.models.detection.masks import PLACES, mask_targets
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.roi_heads import RoIHeads
from imagenet_jax.models.layers.dtypes import wide


@dataclasses.dataclass(frozen=True)
class MaskRCNN(FasterRCNN):
    """Faster R-CNN, and a mask of each box that is told.

    The loss of masks is the mean over an image's proposals with objects, and then over the images
    that have any; torchvision's is that over the proposals of all.

    Attributes:
      told: which boxes get masks.
    """

    told: Choice = FasterRCNN.choice

    terms = FasterRCNN.terms | {"loss_mask": "with_objects"}
    has_masks = True

    def second_stage(
        self,
        heads: RoIHeads,
        maps: Sequence[jax.Array],
        first: Outputs,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        """In training also mask_logits and mask_targets [B, D, 28, 28], of the proposals with
        objects, which come first, and has_mask bool [B, D]; afterwards boxes [B, D, 4], scores and
        labels [B, D] of what is told, and mask_logits of these."""
        proposals, found = first["proposals"], {}

        def in_training(*_: jax.Array) -> tuple[jax.Array, jax.Array]:
            count = min(int(self.roi_samples * WITH_OBJECT), proposals.shape[1])
            masks = targets["masks"].astype(wide(proposals.dtype)) / 255
            inside, numbers = proposals[:, :count], first["numbers"][:, :count]
            sides = 2 * PLACES
            found["mask_targets"] = mask_targets(masks, targets["boxes"], inside, numbers, sides)
            found["has_mask"] = (numbers >= 0) & first["valid"][:, :count]
            return inside, first["labels"][:, :count]

        def afterwards(logits: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
            said = {"class_logits": logits, "box_regression": moves}
            told = FasterRCNN.detections(self, {**first, **said}, size, self.told)
            found.update({"boxes": told.boxes, "scores": told.scores, "labels": told.classes})
            return told.boxes, told.classes + 1

        choose = afterwards if targets is None else in_training
        logits, moves, masks = heads(maps, proposals, train, choose)
        found |= {"class_logits": logits, "box_regression": moves, "mask_logits": masks}
        return found

    def denominators(
        self, matched: jax.Array, classes: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """As of Faster R-CNN, and with_objects: images that have any."""
        there = (classes >= 0).any(1) & mask
        found = super().denominators(matched, classes, mask)
        return found | {"with_objects": there.sum(dtype=jnp.float32)}

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        found = super().losses(outputs, boxes, classes, matched, size)
        return found | {"loss_mask": mask_loss(outputs)}

    def detections(self, outputs: Outputs, size: int, choice: Choice) -> Detections:
        """The boxes that have masks, which `told` has chosen."""
        del size, choice
        masks = jax.nn.sigmoid(outputs["mask_logits"])
        return Detections(outputs["boxes"], outputs["scores"], outputs["labels"], masks)


def mask_loss(outputs: Outputs) -> jax.Array:
    """The mean over the proposals of each image that have masks [B]; see `second_stage`."""
    logits, targets = outputs["mask_logits"], outputs["mask_targets"]
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets).mean((2, 3))
    there = outputs["has_mask"]
    return jnp.where(there, entropy, 0).sum(1) / jnp.maximum(there.sum(1), 1)


@dataclasses.dataclass(frozen=True)
class MaskRCNNV2(MaskRCNN):
    """With norms in the pyramid, and convolutions in the second stage (torchvision's v2)."""

    has_norms = FasterRCNNV2.has_norms
    rpn_depth: ClassVar[int] = FasterRCNNV2.rpn_depth
    box_convolutions: ClassVar[int] = FasterRCNNV2.box_convolutions

"""Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497) with FPN, as torchvision's."""

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
from imagenet_jax.models.detection.anchors import cell_anchors, grid_anchors
from imagenet_jax.models.detection.boxes import decode, encode
from imagenet_jax.models.detection.detections import Candidates, Choice, best_of_map
from imagenet_jax.models.detection.matching import IGNORED, match_by_iou, of_matched
from imagenet_jax.models.detection.method import Method, Outputs
from imagenet_jax.models.detection.proposals import RPN, Proposals, proposed
from imagenet_jax.models.detection.roi_heads import RoIHeads
from imagenet_jax.models.detection.sampling import counted, sampled
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.mobilenet import MobileNetV3

_RATIOS = (0.5, 1.0, 2.0)
_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the offsets of the second stage
_LEAST = 1e-2  # pixels of a side
_BETA = 1 / 9  # where the loss of offsets becomes linear
_ANCHORS, _ANCHORS_WITH_OBJECT = 256, 0.5  # trained on; at most this share of them
WITH_OBJECT = 0.25  # the same of proposals
_MOST = 2000, 1000  # proposals in training and afterwards


@dataclasses.dataclass(frozen=True)
class FasterRCNN(Method):
    """Proposals of a first stage, which a second one sorts into classes and moves.

    The loss of the second stage is the mean over an image's sampled proposals, and then over the
    images; torchvision's is that over the proposals of all, which is the same where all images have
    as many, as nearly all do.

    Attributes:
      roi_samples: proposals of an image that are trained on, at most a quarter of them with
        objects.
      proposals: of an image, the best ones; 0: 2,000 in training, 1,000 afterwards.
      roi_width: width of the second stage.
      anchors_sampled: anchors of an image that are trained on, at most half of them with objects.
    """

    roi_samples: int = 512
    proposals: int = 0
    roi_width: int = 1024
    anchors_sampled: int = _ANCHORS

    own_strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32, 64)
    own_anchor_scale: ClassVar[float] = 8
    terms = dict.fromkeys(("loss_objectness", "loss_rpn_box_reg"), "anchors") | dict.fromkeys(
        ("loss_classifier", "loss_box_reg"), "images"
    )
    choice = Choice(score=0.05, iou=0.5, candidates=1000, most=100)
    pools = True
    needs_targets = True
    has_background = True
    # Convolutions of the first stage and of the second, and whether it and the pyramid have norms.
    rpn_depth: ClassVar[int] = 1
    # The probability that an anchor has an object from which on it is a proposal.
    least_objectness: ClassVar[float] = 0.0
    # Whether each map has no more candidates than an image has proposals.
    limits_candidates: ClassVar[bool] = False
    box_convolutions: ClassVar[int] = 0

    def outputs(
        self,
        maps: Sequence[jax.Array],
        layers: Layers,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        """objectness [B, A], pred_bbox_deltas [B, A, 4], proposals [B, R, 4], valid bool [B, R],
        class_logits [B, R, K + 1], 0 being the background, and box_regression [B, R, K + 1, 4].

        In training also which anchors and proposals are trained on, and what is to be found there.
        """
        anchors = self.anchors(size)
        places = sum(side**2 for side in self.map_sides(size))
        each = sum(map(len, anchors)) // places
        first = RPN(each, self.rpn_depth, layers, name="rpn")
        objectness, offsets = first(maps)
        most = _MOST[targets is None]
        after = self.proposals or most
        rule = (after if self.limits_candidates else most, after, self.least_objectness)
        found = proposed(objectness, offsets, anchors, size, *rule)
        outputs = {"objectness": objectness, "pred_bbox_deltas": offsets}
        if targets is not None:
            found, more = self._sampled(found, targets)
            outputs |= more
        outputs |= {"proposals": found.boxes, "valid": found.valid}
        second = RoIHeads(
            self.strides[:-1],
            self.num_classes + 1,
            self.roi_width,
            self.box_convolutions,
            layers=layers,
            name="roi_heads",
        )
        return outputs | self.second_stage(second, maps[:-1], outputs, train, size, targets)

    def second_stage(
        self,
        heads: RoIHeads,
        maps: Sequence[jax.Array],
        first: Outputs,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        """class_logits and box_regression; arguments as of `outputs`, and what the first stage
        gives."""
        del size, targets
        logits, moves, _ = heads(maps, first["proposals"], train)
        return {"class_logits": logits, "box_regression": moves}

    def _sampled(
        self, found: Proposals, targets: Mapping[str, jax.Array]
    ) -> tuple[Proposals, dict[str, jax.Array]]:
        """The proposals that are trained on, objects among them, and what they are matched with;
        and the anchors that are."""
        boxes, classes = targets["boxes"], targets["classes"]
        keys = jax.random.wrap_key_data(targets["key"])
        anchor_keys, box_keys = (
            jax.vmap(jax.random.fold_in, (0, None))(keys, number) for number in (0, 1)
        )
        share = _ANCHORS_WITH_OBJECT
        anchors = sampled(targets["matched"], anchor_keys, self.anchors_sampled, share)
        there = classes >= 0
        all_boxes = jnp.concatenate([found.boxes, boxes], 1)
        valid = jnp.concatenate([found.valid, there], 1)
        rule = {"positive": 0.5, "negative": 0.5, "low_quality": False}
        matched = match_by_iou(boxes, there, all_boxes, **rule)
        matched = jnp.where(valid, matched, IGNORED)
        chosen = sampled(matched, box_keys, self.roi_samples, WITH_OBJECT)
        matched = of_matched(matched, chosen.place)
        more = {
            "numbers": matched,
            "anchors_place": anchors.place,
            "anchors_valid": anchors.valid,
            "labels": jnp.where(matched >= 0, of_matched(classes, matched) + 1, 0),
            "objects": of_matched(boxes, matched),
        }
        return Proposals(of_matched(all_boxes, chosen.place), chosen.valid), more

    def anchors(self, size: int) -> list[np.ndarray]:
        sizes = [[self.scale * stride] for stride in self.strides]
        return grid_anchors(size, self.strides, [cell_anchors(each, _RATIOS) for each in sizes])

    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        anchors = np.concatenate(self.anchors(size))
        rule = {"positive": 0.7, "negative": 0.3, "low_quality": True}
        return match_by_iou(boxes, classes >= 0, anchors, **rule)

    def denominators(
        self, matched: jax.Array, classes: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """anchors: that are trained on; and images."""
        count = counted(matched, self.anchors_sampled, _ANCHORS_WITH_OBJECT)
        anchors = jnp.where(mask, count, 0).sum(dtype=jnp.float32)
        return {"anchors": anchors, "images": mask.sum(dtype=jnp.float32)}

    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        return self._first_losses(outputs, boxes, matched, size) | self._second_losses(outputs)

    def _first_losses(
        self, outputs: Outputs, boxes: jax.Array, matched: jax.Array, size: int
    ) -> dict[str, jax.Array]:
        """Of the anchors that are trained on: sums."""
        place, valid = outputs["anchors_place"], outputs["anchors_valid"]
        logits = of_matched(outputs["objectness"], place)
        offsets = of_matched(outputs["pred_bbox_deltas"], place)
        matched = of_matched(matched, place)
        positive = (matched >= 0) & valid
        entropy = optax.sigmoid_binary_cross_entropy(logits, (matched >= 0).astype(logits.dtype))
        anchors = jnp.asarray(np.concatenate(self.anchors(size)), offsets.dtype)[place]
        there = jnp.where(positive[..., None], of_matched(boxes, matched), anchors)
        apart = _smooth_l1(offsets, encode(there, anchors))
        return {
            "loss_objectness": jnp.where(valid, entropy, 0).sum(1),
            "loss_rpn_box_reg": jnp.where(positive, apart, 0).sum(1),
        }

    def _second_losses(self, outputs: Outputs) -> dict[str, jax.Array]:
        """Of the proposals that are trained on: means over those of an image."""
        labels, valid = outputs["labels"], outputs["valid"]
        count = jnp.maximum(valid.sum(1), 1)
        entropy = optax.softmax_cross_entropy_with_integer_labels(outputs["class_logits"], labels)
        positive = (labels > 0) & valid
        moves = jnp.take_along_axis(
            outputs["box_regression"], labels[..., None, None].astype(jnp.int32), 2
        )[:, :, 0]
        # Boxes without an object may have no area: one of a pixel stands for them.
        square = jnp.broadcast_to(
            jnp.array([0.0, 0.0, 1.0, 1.0], moves.dtype).reshape(1, 1, 4), moves.shape
        )
        there, proposals = (
            jnp.where(positive[..., None], outputs[name], square)
            for name in ("objects", "proposals")
        )
        apart = _smooth_l1(moves, encode(there, proposals, _WEIGHTS))
        return {
            "loss_classifier": jnp.where(valid, entropy, 0).sum(1) / count,
            "loss_box_reg": jnp.where(positive, apart, 0).sum(1) / count,
        }

    def candidates(self, outputs: Outputs, size: int, choice: Choice) -> list[Candidates]:
        """The best pairs of a proposal and a class; torchvision looks at all whose score is above
        the threshold, which are fewer but for strange networks."""
        scores = jax.nn.softmax(outputs["class_logits"], -1)[..., 1:]
        moves = outputs["box_regression"][:, :, 1:]
        proposals = jnp.broadcast_to(outputs["proposals"][:, :, None], moves.shape)
        boxes = jnp.clip(decode(moves, proposals, _WEIGHTS), 0, size)
        large = (boxes[..., 2:] - boxes[..., :2] >= _LEAST).all(-1)
        scores = jnp.where(outputs["valid"][..., None] & large, scores, -1.0)
        found, place, classes = best_of_map(scores, choice)
        pairs = place * self.num_classes + classes
        flat = boxes.reshape(boxes.shape[0], -1, 4)
        return [Candidates(of_matched(flat, pairs), found, classes)]


@dataclasses.dataclass(frozen=True)
class FasterRCNNV2(FasterRCNN):
    """With norms in the pyramid, and convolutions in the second stage (torchvision's v2)."""

    has_norms = True
    rpn_depth: ClassVar[int] = 2
    box_convolutions: ClassVar[int] = 4


@dataclasses.dataclass(frozen=True)
class FasterRCNNMobile(FasterRCNN):
    """On MobileNetV3, of whose maps two with a stride of 32 are used (torchvision's), with anchors
    of all sizes on each."""

    own_strides: ClassVar[tuple[int, ...]] = (32, 32, 64)
    own_anchor_scale: ClassVar[float] = 1
    least_objectness: ClassVar[float] = 0.05
    limits_candidates: ClassVar[bool] = True

    def pyramid(self, backbone: Backbone, features: int) -> nn.Module:
        own = backbone.layers.own(bn_momentum=0.99)  # torch's epsilon, not MobileNet's
        return super().pyramid(backbone.clone(layers=own), features)

    def maps_of(self, backbone: Backbone) -> tuple[str, ...]:
        if not isinstance(backbone, MobileNetV3) or self.strides != self.own_strides:
            raise ConfigError(
                "config.model.head = 'faster_rcnn_mobile' is for config.model.name = "
                "'mobilenet_v3_large' or 'mobilenet_v3_small', and has no config.model.fpn_strides"
            )
        inside, last = backbone.detector_maps
        return inside.removesuffix(".block.0"), last

    def anchors(self, size: int) -> list[np.ndarray]:
        sizes = [self.scale * side for side in (32, 64, 128, 256, 512)]
        cells = [cell_anchors(sizes, _RATIOS)] * len(self.strides)
        return grid_anchors(size, self.strides, cells)


def _smooth_l1(said: jax.Array, there: jax.Array) -> jax.Array:
    """torch's smooth L1 loss, the sum [..., ] over the four offsets [..., 4]."""
    return optax.huber_loss(said, there, delta=_BETA).sum(-1) / _BETA

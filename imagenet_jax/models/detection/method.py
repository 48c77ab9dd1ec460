"""What a detector makes of the outputs of its network: losses in training, boxes afterwards."""

import abc
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import Backbone, find_levels
from imagenet_jax.models.detection.anchors import map_sides
from imagenet_jax.models.detection.detections import Candidates, Choice, Detections, chosen
from imagenet_jax.models.detection.fpn import FPN, BackboneWithFPN
from imagenet_jax.models.layers.layers import Layers

WIDTH = 256  # channels of a pyramid, unless it is chosen
Outputs = Mapping[str, jax.Array]  # [B, A, ...] each, of the anchors of all maps in a row


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """A way to detect. Static: no arrays.

    Attributes:
      num_classes: K.
      strides: of the maps of the pyramid, from fine to coarse.
      anchor_scale: side of the smallest anchors of a map over its stride; 0: the method's own.
      fpn_bottom_up: see `fpn.FPN`.
    """

    num_classes: int
    strides: tuple[int, ...]
    anchor_scale: float = 0
    fpn_bottom_up: bool = False

    # Of the maps, where none are chosen.
    own_strides: ClassVar[tuple[int, ...]] = (8, 16, 32, 64, 128)
    # The terms of the loss, and over which of `denominators` each of them is.
    terms: ClassVar[Mapping[str, str]]
    # See `candidates`.
    choice: ClassVar[Choice]
    own_anchor_scale: ClassVar[float] = 0  # that there is none
    # Whether the first output of classes is that of the background.
    has_background: ClassVar[bool] = False
    # Whether there is a feature pyramid, with a width that can be chosen; see `fpn.FPN`.
    has_fpn: ClassVar[bool] = True
    extra_from_last: ClassVar[bool] = False
    has_norms: ClassVar[bool] = False
    # Whether the last map is every other row and column of the one before.
    pools: ClassVar[bool] = False
    # Whether `outputs` needs the objects in training.
    needs_targets: ClassVar[bool] = False
    # Whether it tells the pixels of things; then it has an attribute `told`, a `Choice`.
    has_masks: ClassVar[bool] = False

    @property
    def scale(self) -> float:
        """Side of the smallest anchors of a map over its stride."""
        return self.anchor_scale or self.own_anchor_scale

    def pyramid(self, backbone: Backbone, features: int) -> nn.Module:
        """What makes the maps of images: module(image, train) -> maps, from fine to coarse.

        Args:
          backbone: has no parent.
          features: channels of the pyramid.

        Raises:
          ConfigError: if it has no maps of `strides`.
        """
        names = self.maps_of(backbone)
        made = self.strides[len(names) :]
        extra = ("pool",) if self.pools else tuple(f"p{round(math.log2(n))}" for n in made)
        how = (features, extra, self.extra_from_last, self.has_norms, self.fpn_bottom_up)
        return BackboneWithFPN(backbone, names, FPN(*how, backbone.layers))

    def maps_of(self, backbone: Backbone) -> tuple[str, ...]:
        """The maps of a backbone that have `strides`, from fine to coarse; others are made of the
        last one. Raises ConfigError."""
        strides = self.strides
        if strides[0] < 2 or any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise ConfigError(
                f"config.model.fpn_strides = {strides}: the first has to be 2 or more, each of the "
                "others twice the one before"
            )
        by_stride = {level.stride: level.name for level in find_levels(backbone)}
        own = strides[:-1] if self.pools else strides
        known = [stride for stride in own if stride in by_stride]
        lacking = len(known) < len(own) if self.pools or not self.has_fpn else not known
        if lacking or known != list(own[: len(known)]):
            has = ", ".join(map(str, sorted(by_stride)))
            raise ConfigError(
                f"config.model.fpn_strides = {strides}: the maps of the backbone have the strides "
                f"{has}"
            )
        return tuple(by_stride[stride] for stride in known)

    def map_sides(self, size: int) -> list[int]:
        """Height and width of the maps of an image of size x size pixels."""
        return map_sides(size, self.strides)

    @abc.abstractmethod
    def outputs(
        self,
        maps: Sequence[jax.Array],
        layers: Layers,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        """What is said of the maps of the pyramid; called within the network's module.

        Args:
          maps: from fine to coarse.
          layers: makes the layers.
          train: whether BatchNorm is in training mode.
          size: height and width of the input in pixels.
          targets: in training, if `needs_targets`: boxes, classes and matched as of `losses`, and
            key uint32 [B, 2], by which choices are made; if `has_masks` also masks, see
            `data.sources.outlines.mask_field`.
        """

    def of_backbone(self, backbone: Backbone, features: int) -> "Method":
        """What it is on a backbone, with a pyramid of so many channels. Raises ConfigError."""
        if not self.has_fpn and features != WIDTH:
            raise ConfigError(f"config.model.fpn_width = {features}: it has no such pyramid")
        return self

    @abc.abstractmethod
    def anchors(self, size: int) -> list[np.ndarray]:
        """The anchors float32 [n, 4] of each map of an image of size x size pixels."""

    @abc.abstractmethod
    def matched(self, boxes: jax.Array, classes: jax.Array, size: int) -> jax.Array:
        """The number of the object of each anchor int32 [B, A], or `matching.BACKGROUND` and so on.

        Args:
          boxes: of the objects, float32 [B, M, 4], in pixels of the input.
          classes: int32 [B, M]; negative: padding.
          size: height and width of the input.
        """

    def denominators(
        self, matched: jax.Array, classes: jax.Array, mask: jax.Array
    ) -> dict[str, jax.Array]:
        """What `terms` name, sums over the images with mask True: images, and positives, the
        anchors that have an object; arguments as of `losses`."""
        positives = (matched >= 0).sum(1)
        return {
            "images": mask.sum(dtype=np.float32),
            "positives": jax.numpy.where(mask, positives, 0).sum(dtype=np.float32),
        }

    @abc.abstractmethod
    def losses(
        self,
        outputs: Outputs,
        boxes: jax.Array,
        classes: jax.Array,
        matched: jax.Array,
        size: int,
    ) -> dict[str, jax.Array]:
        """The numerators of `terms`, float32 [B] each; arguments as of `matched`."""

    @abc.abstractmethod
    def candidates(self, outputs: Outputs, size: int, choice: Choice) -> list[Candidates]:
        """The best boxes of each map of images of size x size pixels."""

    def detections(self, outputs: Outputs, size: int, choice: Choice) -> Detections:
        """The boxes that are told of images of size x size pixels."""
        return chosen(self.candidates(outputs, size, choice), choice)

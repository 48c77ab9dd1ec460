"""A backbone of the table, a pyramid of its maps, and the head of a way to detect."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.models.backbone import Backbone, find_levels
from imagenet_jax.models.detection.anchors import map_sides
from imagenet_jax.models.detection.fcos import FCOS
from imagenet_jax.models.detection.fpn import FPN, BackboneWithFPN
from imagenet_jax.models.detection.method import Method, Outputs
from imagenet_jax.models.detection.retinanet import RetinaNet, RetinaNetV2
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.table import create_model

_METHODS: dict[str, type[Method]] = {
    "retinanet": RetinaNet,
    "retinanet_v2": RetinaNetV2,
    "fcos": FCOS,
}
HEADS = tuple(_METHODS)
_GROUPS = 32  # of the group norms of heads


class Detector(nn.Module):
    """What `Method.losses` and `Method.detections` take, of images.

    Attributes:
      backbone: makes the pyramid.
      num_classes: K.
      kind: one of `HEADS`.
      strides: of the maps of the pyramid.
      layers: see `layers.Layers`.
    """

    backbone: BackboneWithFPN
    num_classes: int
    kind: str
    strides: tuple[int, ...]
    layers: Layers = Layers()

    # A new head starts as it is initialised, not at zero: a class at each place is improbable.
    keeps_initial_head = True

    @property
    def method(self) -> Method:
        """What is made of the outputs."""
        return _METHODS[self.kind](self.num_classes, self.strides)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> Outputs:
        """{output: float32 [B, A, ...]} of images [B, S, S, 3], float32 and normalised.

        Raises:
          ConfigError: for images of a size for which the maps are not as large as expected.
        """
        maps = self.backbone(image, train)
        sides = [x.shape[1:3] for x in maps]
        if sides != [(side, side) for side in map_sides(image.shape[1], self.strides)]:
            found = ", ".join(f"{height} x {width}" for height, width in sides)
            raise ConfigError(
                f"images of {image.shape[1]} x {image.shape[2]} pixels give maps of {found}; they "
                f"have to be squares, their side a multiple of {max(self.strides)}"
            )
        return self.method.head(self.layers)(maps, train)


def detection_method(head: str, num_classes: int, strides: Sequence[int] = ()) -> Method:
    """A way to detect by its name; strides as of `create_detector`.

    Raises:
      ConfigError: for a name that does not exist.
    """
    if head not in _METHODS:
        near = did_you_mean(head, HEADS)
        raise ConfigError(f"there is no detector {head!r}; expected {', '.join(HEADS)}{near}")
    kind = _METHODS[head]
    return kind(num_classes, tuple(strides) or kind.own_strides)


def create_detector(
    name: str,
    head: str,
    *,
    num_classes: int,
    strides: Sequence[int] = (),
    features: int = 256,
    **options: Any,
) -> Detector:
    """A Linen module, e.g. `create_detector("resnet50", "retinanet", num_classes=80)`.

    Args:
      name: of the backbone, in the table of models.
      head: "retinanet", "retinanet_v2" or "fcos".
      num_classes: K; there is none for the background.
      strides: of the maps, each twice the one before; those of which the backbone has none are
        made of the last one. (): those of the published networks, 8 to 128.
      features: channels of the pyramid and of the head, a multiple of 32.
      **options: of the backbone, see `create_model`.

    Raises:
      ConfigError: for a name or an option that does not exist, or maps that there cannot be.
    """
    method = detection_method(head, num_classes, strides)
    if features % _GROUPS or features < _GROUPS:
        raise ConfigError(f"config.model.fpn_width = {features} is no multiple of {_GROUPS}")
    backbone: Backbone = create_model(name, num_classes=1, **options)
    levels = {level.stride: level.name for level in find_levels(backbone)}
    names, extra = _maps_for(method.strides, levels)
    layers = backbone.layers
    fpn = FPN(features, extra, method.extra_from_last, layers)
    pyramid = BackboneWithFPN(backbone, names, fpn)
    return Detector(pyramid, num_classes, head, method.strides, layers)


def _maps_for(
    strides: tuple[int, ...], by_stride: dict[int, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The maps of a backbone, and the names of those that are made of the last one."""
    if strides[0] < 2 or any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise ConfigError(
            f"config.model.fpn_strides = {strides}: the first has to be 2 or more, each of the "
            "others twice the one before"
        )
    known = [stride for stride in strides if stride in by_stride]
    if not known or known != list(strides[: len(known)]):
        has = ", ".join(map(str, sorted(by_stride)))
        raise ConfigError(
            f"config.model.fpn_strides = {strides}: the maps of the backbone have the strides {has}"
        )
    extra = tuple(f"p{round(math.log2(stride))}" for stride in strides[len(known) :])
    return tuple(by_stride[stride] for stride in known), extra

"""A backbone of the table, a pyramid of its maps, and the head of a way to detect."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.detection.detr import DETR
from imagenet_jax.models.detection.faster_rcnn import (
    FasterRCNN,
    FasterRCNNMobile,
    FasterRCNNV2,
)
from imagenet_jax.models.detection.fcos import FCOS
from imagenet_jax.models.detection.mask_rcnn import MaskRCNN, MaskRCNNV2
from imagenet_jax.models.detection.method import WIDTH, Method, Outputs
from imagenet_jax.models.detection.retinanet import RetinaNet, RetinaNetV2
from imagenet_jax.models.detection.ssd import SSD, SSDLite
from imagenet_jax.models.detection.yolox import YOLOX
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.table import create_model

METHODS: dict[str, type[Method]] = {
    "retinanet": RetinaNet,
    "retinanet_v2": RetinaNetV2,
    "fcos": FCOS,
    "faster_rcnn": FasterRCNN,
    "faster_rcnn_v2": FasterRCNNV2,
    "faster_rcnn_mobile": FasterRCNNMobile,
    "yolox": YOLOX,
    "detr": DETR,
    "ssd": SSD,
    "ssdlite": SSDLite,
    "mask_rcnn": MaskRCNN,
    "mask_rcnn_v2": MaskRCNNV2,
}
HEADS = tuple(METHODS)
_GROUPS = 32  # channels of which there are a multiple, for group norms


class Detector(nn.Module):
    """What `Method.losses` and `Method.detections` take, of images.

    Attributes:
      backbone: makes the maps, see `Method.pyramid`.
      num_classes: K.
      method: what is made of the pyramid, and of the outputs.
      layers: see `layers.Layers`.
    """

    backbone: nn.Module
    num_classes: int
    method: Method
    layers: Layers = Layers()

    # A new head starts as it is initialised, not at zero: a class at each place is improbable.
    keeps_initial_head = True

    @nn.compact
    def __call__(self, inputs: jax.Array | Mapping[str, jax.Array], train: bool) -> Outputs:
        """See `Method.outputs`.

        Args:
          inputs: images [B, S, S, 3], float32 and normalised; or these as "image" with targets.
          train: whether BatchNorm is in training mode.

        Raises:
          ConfigError: for images of a size for which the maps are not as large as expected.
        """
        image = inputs if hasattr(inputs, "shape") else inputs["image"]
        method = dataclasses.replace(self.method, num_classes=self.num_classes)
        maps, size = self.backbone(image, train), image.shape[1]
        sides = [x.shape[1:3] for x in maps]
        if min(min(side) for side in sides) < 1:
            raise ConfigError(f"images of {size} x {size} pixels are too small for this detector")
        if sides != [(side, side) for side in method.map_sides(size)]:
            found = ", ".join(f"{height} x {width}" for height, width in sides)
            raise ConfigError(
                f"images of {size} x {image.shape[2]} pixels give maps of {found}; they "
                f"have to be squares, their side a multiple of {max(method.strides)}"
            )
        targets = None if image is inputs else inputs
        return method.outputs(maps, self.layers, train, size, targets)


def detection_method(
    head: str, num_classes: int, strides: Sequence[int] = (), **options: Any
) -> Method:
    """A way to detect by its name; strides and options as of `create_detector`.

    Raises:
      ConfigError: for a name that does not exist, or an option that it does not have.
    """
    if head not in METHODS:
        near = did_you_mean(head, HEADS)
        raise ConfigError(f"there is no detector {head!r}; expected {', '.join(HEADS)}{near}")
    kind = METHODS[head]
    known = {field.name for field in dataclasses.fields(kind)}
    known -= set() if kind.own_anchor_scale else {"anchor_scale"}
    known -= set() if kind.has_fpn else {"fpn_bottom_up"}
    known -= {"features", "depthwise"}  # which the backbone says
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"config.model.{name} = {value!r}: {head} has no such option")
    return kind(num_classes, tuple(strides) or kind.own_strides, **options)


def create_detector(
    name: str,
    head: str,
    *,
    num_classes: int,
    strides: Sequence[int] = (),
    features: int = WIDTH,
    method: Mapping[str, Any] | None = None,
    **options: Any,
) -> Detector:
    """A Linen module, e.g. `create_detector("resnet50", "retinanet", num_classes=80)`.

    Args:
      name: of the backbone, in the table of models.
      head: one of `HEADS`.
      num_classes: K; there is none for the background.
      strides: of the maps, each twice the one before; those of which the backbone has none are
        made of the last one. (): those of the published networks, 8 to
        128, or 4 to 64 of Faster R-CNN, the last of which is every other place of the one before.
      features: channels of the pyramid and of the head, a multiple of 32.
      method: options of the way to detect: fpn_bottom_up of those with a feature pyramid;
        anchor_scale of RetinaNet and R-CNNs; roi_samples, proposals and roi_width of R-CNNs.
      **options: of the backbone, see `create_model`.

    Raises:
      ConfigError: for a name or an option that does not exist, or maps that there cannot be.
    """
    way = detection_method(head, num_classes, strides, **(method or {}))
    if features % _GROUPS or features < _GROUPS:
        raise ConfigError(f"config.model.fpn_width = {features} is no multiple of {_GROUPS}")
    backbone: Backbone = create_model(name, num_classes=1, **options)
    way = way.of_backbone(backbone, features)
    return Detector(way.pyramid(backbone, features), num_classes, way, backbone.layers)

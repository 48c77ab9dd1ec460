"""Networks that give each pixel its class: a backbone of the table, and a head on its maps."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.models.backbone import Backbone, find_levels
from imagenet_jax.models.heads.deeplab import DeepLabV3
from imagenet_jax.models.heads.fcn import FCN
from imagenet_jax.models.heads.lraspp import LRASPP
from imagenet_jax.models.heads.unet import UNet
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.resize import bilinear_resize
from imagenet_jax.models.mobilenet import MobileNetV3
from imagenet_jax.models.table import create_model

_HEADS: dict[str, Any] = {"fcn": FCN, "deeplabv3": DeepLabV3, "lraspp": LRASPP, "unet": UNet}
HEADS = tuple(_HEADS)
_DILATED = ("fcn", "deeplabv3", "lraspp")  # whose backbone keeps its last maps large


class Segmenter(nn.Module):
    """Logits of each pixel; in training those of an auxiliary head are sown as "auxiliary".

    Attributes:
      backbone: what gives the maps.
      num_classes: number of logits.
      head: one of `HEADS`.
      names: the maps that the head sees, from fine to coarse.
      auxiliary: the map of an FCN beside it; "": none.
      layers: see `layers.Layers`.
    """

    backbone: Backbone
    num_classes: int
    head: str
    names: tuple[str, ...]
    auxiliary: str = ""
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Logits float32 [B, H, W, num_classes] of images [B, H, W, 3], float32 and normalised."""
        sides = image.shape[1:3]
        names = (*self.names, self.auxiliary) if self.auxiliary else self.names
        maps = self.backbone.features(image, train, names)
        own = {"sides": sides, "name": "decoder"} if self.head == "unet" else {"name": "classifier"}
        head = _HEADS[self.head](self.num_classes, layers=self.layers, **own)
        if self.auxiliary and (train or self.is_initializing()):
            beside = FCN(self.num_classes, self.layers, name="aux_classifier")
            logits = beside([maps[self.auxiliary]], train)
            self.sow("auxiliary", "logits", bilinear_resize(logits, sides))
        return bilinear_resize(head([maps[name] for name in self.names], train), sides)


def create_segmenter(
    name: str, head: str, *, num_classes: int, auxiliary: bool = False, **options: Any
) -> Segmenter:
    """A Linen module, e.g. `create_segmenter("resnet50", "deeplabv3", num_classes=21)`.

    Args:
      name: of the backbone, in the table of models.
      head: "fcn", "deeplabv3", "lraspp" or "unet".
      num_classes: number of logits of each pixel.
      auxiliary: whether there is a second head in training, an FCN on an earlier map.
      **options: of the backbone, see `create_model`. Where its last convolutions can be dilated,
        output_stride is 8, or 16 of MobileNet v3, as torchvision has it; U-Net's are not.

    Raises:
      ConfigError: for a name or an option that does not exist, or a backbone whose maps a head
        cannot use.
    """
    if head not in _HEADS:
        near = did_you_mean(head, HEADS)
        raise ConfigError(f"there is no head {head!r}; expected {', '.join(HEADS)}{near}")
    undilated = {field: value for field, value in options.items() if field != "output_stride"}
    plain = create_model(name, num_classes=1, **undilated)
    levels = {level.stride: level.name for level in find_levels(plain)}
    if hasattr(plain, "output_stride") and head in _DILATED and max(levels) > 8:
        options = {"output_stride": 16 if isinstance(plain, MobileNetV3) else 8} | options
    backbone = create_model(name, num_classes=1, **options)
    names, beside = _maps_for(head, plain, levels)
    return Segmenter(
        *(backbone, num_classes, head, names),
        auxiliary=beside if auxiliary and head in ("fcn", "deeplabv3") else "",
        layers=backbone.layers,
    )


def _maps_for(
    head: str, backbone: Backbone, by_stride: Mapping[int, str]
) -> tuple[tuple[str, ...], str]:
    """The maps of a head, and that of the auxiliary one.

    Args:
      head: one of `HEADS`.
      backbone: not dilated.
      by_stride: the last of its maps of each stride.
    """
    names = [by_stride[stride] for stride in sorted(by_stride)]
    earlier = names[-2] if len(names) > 1 else names[-1]
    if isinstance(backbone, MobileNetV3):  # torchvision takes the first block of stride 8
        earlier, stride = "", 2
        for number, block in enumerate(backbone.blocks, 1):
            stride *= block.stride
            earlier = earlier or (f"features.{number}" if stride == 8 else "")
    if head == "unet":
        return tuple(names), ""
    if head != "lraspp":
        return (names[-1],), earlier
    fine = earlier if isinstance(backbone, MobileNetV3) else by_stride.get(8, "")
    if not fine or fine == names[-1]:
        raise ConfigError(
            "lraspp needs a map of stride 8 and a coarser one, and those of the backbone have "
            f"the strides {', '.join(map(str, sorted(by_stride)))}"
        )
    return (fine, names[-1]), ""

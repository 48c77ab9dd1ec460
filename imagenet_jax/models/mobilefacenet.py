"""MobileFaceNet (Chen et al. 2018, https://arxiv.org/abs/1804.07573), for faces of 112 pixels.

Modules are named as in TreB1eN/InsightFace_Pytorch.
"""

from collections.abc import Container, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Level, Maps
from imagenet_jax.models.layers.layers import Layers, add_shortcut
from imagenet_jax.models.layers.prelu import PReLU
from imagenet_jax.models.layers.residual import Residual

LAST_STRIDE = 16  # of the map that a convolution of its size is for


class ConvNormPReLU(nn.Module):
    """A convolution without bias, BatchNorm and, unless it is linear, PReLU."""

    channels: int
    layers: Layers
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    groups: int = 1
    padding: int | None = None
    linear: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = self.layers.conv(
            self.channels,
            self.kernel,
            self.stride,
            padding=self.padding,
            groups=self.groups,
            name="conv",
        )
        x = self.layers.norm(name="bn")(conv(x), train)
        return x if self.linear else PReLU(name="prelu")(x)


class Bottleneck(Residual):
    """1x1 up to `inner` channels, 3x3 depthwise, 1x1 down; a shortcut where the stride is 1."""

    inner: int
    channels: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        inner, layers = self.inner, self.layers
        y = ConvNormPReLU(inner, layers, name="conv")(x, train)
        y = ConvNormPReLU(inner, layers, 3, self.stride, inner, name="conv_dw")(y, train)
        y = ConvNormPReLU(self.channels, layers, linear=True, name="project")(y, train)
        return add_shortcut(x, y) if self.stride == 1 else y


class Row(NamedTuple):
    """Bottlenecks of table 1 of the paper: their name, inner and outer channels, stride."""

    name: str
    inner: int
    channels: int
    stride: int = 1


_ROWS = (
    Row("conv_23", 128, 64, 2),
    *(Row(f"conv_3.model.{number}", 128, 64) for number in range(4)),
    Row("conv_34", 256, 128, 2),
    *(Row(f"conv_4.model.{number}", 256, 128) for number in range(6)),
    Row("conv_45", 512, 128, 2),
    *(Row(f"conv_5.model.{number}", 256, 128) for number in range(2)),
)


class MobileFaceNet(Backbone):
    """MobileFaceNet for images [B, H, W, 3], 112 pixels in the paper.

    Instead of a mean over the last map, a depthwise convolution of its size gives each pixel its
    weight: the parameters are for images of one size.

    As a classifier it has its logits where the reference has the embedding, from `linear`, which
    has no bias and no BatchNorm behind it. With `heads.embedder` around it, and 128 outputs in the
    paper, it is the network of embeddings.

    Attributes:
      num_classes: number of logits.
      layers: see `layers.Layers`.
    """

    num_classes: int
    layers: Layers = Layers()
    norm_name = "bn"

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps conv1, conv2_dw, each bottleneck and conv_6_sep; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        make = partial(ConvNormPReLU, layers=layers)
        x = make(64, kernel=3, stride=2, name="conv1")(x, train)
        yield "conv1", x
        x = make(64, kernel=3, groups=64, name="conv2_dw")(x, train)
        yield "conv2_dw", x
        for row in _ROWS:
            block = layers.block(Bottleneck)
            x = block(row.inner, row.channels, row.stride, layers, name=row.name)(x, train)
            yield row.name, x
        x = make(512, name="conv_6_sep")(x, train)
        yield "conv_6_sep", x
        whole = {"kernel": x.shape[1:3], "padding": 0, "groups": x.shape[-1]}
        x = make(x.shape[-1], **whole, linear=True, name="conv_6_dw")(x, train)
        return layers.head(self.num_classes, bias=False, name="linear")(x[:, 0, 0])

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """Without the last convolution, as of other MobileNets."""
        return super().levels_among(maps[:-1])


mobilefacenet = MobileFaceNet

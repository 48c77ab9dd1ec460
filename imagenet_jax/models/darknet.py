"""CSPDarknet, YOLOX's backbone (Ge et al. 2021, https://arxiv.org/abs/2107.08430), as in its code.

Layers have the names of https://github.com/Megvii-BaseDetection/YOLOX.
"""

from collections.abc import Container
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers, add_shortcut
from imagenet_jax.models.layers.max_pool import max_pool


class ConvNormAct(nn.Module):
    """A convolution, BatchNorm and SiLU."""

    features: int
    kernel: int
    layers: Layers
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        how = {"groups": self.groups, "init": torch_default, "name": "conv"}
        x = self.layers.conv(self.features, self.kernel, self.stride, **how)(x)
        return nn.silu(self.layers.norm(name="bn")(x, train))


class DepthwiseConv(nn.Module):
    """A depthwise 3x3 `ConvNormAct` and a 1x1 one."""

    features: int
    layers: Layers
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        x = ConvNormAct(width, 3, self.layers, self.stride, width, name="dconv")(x, train)
        return ConvNormAct(self.features, 1, self.layers, name="pconv")(x, train)


def conv3x3(
    features: int, depthwise: bool, layers: Layers, stride: int = 1, *, name: str
) -> nn.Module:
    """A 3x3 `ConvNormAct`, or `DepthwiseConv` in its place."""
    if depthwise:
        return DepthwiseConv(features, layers, stride, name=name)
    return ConvNormAct(features, 3, layers, stride, name=name)


class _Bottleneck(nn.Module):
    """1x1 and 3x3, with a shortcut."""

    depthwise: bool
    shortcut: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = ConvNormAct(x.shape[-1], 1, self.layers, name="conv1")(x, train)
        y = conv3x3(x.shape[-1], self.depthwise, self.layers, name="conv2")(y, train)
        return add_shortcut(x, y) if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels go through bottlenecks, half around them (Wang et al. 2019)."""

    features: int
    blocks: int
    depthwise: bool
    shortcut: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        step = partial(ConvNormAct, self.features // 2, 1, self.layers)
        through, around = step(name="conv1")(x, train), step(name="conv2")(x, train)
        for number in range(self.blocks):
            make = self.layers.block(_Bottleneck)
            block = make(self.depthwise, self.shortcut, self.layers, name=f"m.{number}")
            through = block(through, train)
        both = jnp.concatenate([through, around], -1)
        return ConvNormAct(self.features, 1, self.layers, name="conv3")(both, train)


class _PooledPyramid(nn.Module):
    """Maxima over 5, 9 and 13 pixels beside the map itself."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        x = ConvNormAct(width // 2, 1, self.layers, name="conv1")(x, train)
        x = jnp.concatenate([x, *(max_pool(x, n, 1, n // 2) for n in (5, 9, 13))], -1)
        return ConvNormAct(width, 1, self.layers, name="conv2")(x, train)


class CSPDarknet(Backbone):
    """For images [B, H, W, 3] with even sides; the classifier on top is ours.

    Attributes:
      num_classes: number of logits.
      width: channels of the map of stride 2.
      blocks: bottlenecks of the first and of the last stage; the others have three times as many.
      depthwise: whether 3x3 convolutions are depthwise, each with a 1x1 one.
      layers: see `layers.Layers`.
    """

    num_classes: int
    width: int = 32
    blocks: int = 1
    depthwise: bool = False
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps stem and dark2 to dark5, of strides 2 to 32; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.97)
        x = _ParityStem(self.width, layers, name="stem")(image.astype(layers.dtype), train)
        yield "stem", x
        for number, times in ((2, 1), (3, 3), (4, 3), (5, 1)):
            name, width = f"dark{number}", self.width * 2 ** (number - 1)
            x = conv3x3(width, self.depthwise, layers, 2, name=f"{name}.0")(x, train)
            last = number == 5
            if last:
                x = _PooledPyramid(layers, name=f"{name}.1")(x, train)
            blocks = (times * self.blocks, self.depthwise, not last, layers)
            x = CSPLayer(width, *blocks, name=f"{name}.{1 + last}")(x, train)
            yield name, x
        return layers.head(self.num_classes, name="classifier")(global_avg_pool(x))


class _ParityStem(nn.Module):
    """YOLOX's Focus: pixels of even and odd rows and columns as channels, and a 3x3 convolution."""

    width: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = jnp.concatenate(parts, -1)
        return ConvNormAct(self.width, 3, self.layers, name="conv")(x, train)


cspdarknet_nano = partial(CSPDarknet, width=16, depthwise=True)
cspdarknet_tiny = partial(CSPDarknet, width=24)
cspdarknet_s = partial(CSPDarknet, width=32)
cspdarknet_m = partial(CSPDarknet, width=48, blocks=2)

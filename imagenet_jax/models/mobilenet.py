"""MobileNet v2 (https://arxiv.org/abs/1801.04381), v3 (https://arxiv.org/abs/1905.02244).

Sandler et al. 2018 and Howard et al. 2019, as torchvision's.
"""

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Level, Maps, check_output_stride
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers, add_shortcut, divisible, kaiming
from imagenet_jax.models.layers.platforms import relu6
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.squeeze_excite import SqueezeExcite

_init = nn.initializers.normal(0.01)


def conv_norm_act(
    layers: Layers,
    x: jax.Array,
    train: bool,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    *,
    name: str,
    dilation: int = 1,
    groups: int = 1,
    act: Callable | None = None,
    padding: str | None = None,
    init: Callable = kaiming,
) -> jax.Array:
    """torchvision's Conv2dNormActivation: NAME.0 a convolution, NAME.1 BatchNorm, `act`."""
    conv = layers.conv(
        channels,
        kernel,
        stride,
        dilation=dilation,
        groups=groups,
        padding=padding,
        init=init,
        name=f"{name}.0",
    )
    x = layers.norm(name=f"{name}.1")(conv(x), train)
    return act(x) if act else x


class InvertedResidualV2(Residual):
    """1x1 up, 3x3 depthwise, 1x1 down, with ReLU6; a shortcut where shapes agree."""

    channels: int
    expansion: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        step = partial(conv_norm_act, self.layers, train=train)
        y, inner, number = x, x.shape[-1] * self.expansion, 0
        if self.expansion > 1:
            y = step(y, channels=inner, name="conv.0", act=relu6)
            number = 1
        y = step(
            y,
            channels=inner,
            kernel=3,
            stride=self.stride,
            groups=inner,
            name=f"conv.{number}",
            act=relu6,
        )
        y = self.layers.conv(self.channels, 1, name=f"conv.{number + 1}")(y)
        y = self.layers.norm(name=f"conv.{number + 2}")(y, train)
        return add_shortcut(x, y) if x.shape == y.shape else y


class MobileNetV2(Backbone):
    """Inverted residuals for images [B, H, W, 3].

    Attributes:
      num_classes: number of logits.
      width_multiplier: of the channels.
      dropout: rate before the last layer.
      layers: see `layers.Layers`.
    """

    num_classes: int
    width_multiplier: float = 1.0
    dropout: float = 0.2
    layers: Layers = Layers()
    # expansion, channels, blocks, stride of the first block
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.N: each block; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        step = partial(conv_norm_act, layers, train=train, act=relu6)
        stem = divisible(32 * self.width_multiplier)
        x = step(x, channels=stem, kernel=3, stride=2, name="features.0")
        yield "features.0", x
        number = 1
        for expansion, channels, count, first_stride in self.stages:
            for index in range(count):
                name = f"features.{number}"
                x = layers.block(InvertedResidualV2)(
                    divisible(channels * self.width_multiplier),
                    expansion,
                    first_stride if index == 0 else 1,
                    layers.within(name),
                    name=name,
                )(x, train)
                yield name, x
                number += 1
        last = divisible(1280 * max(1.0, self.width_multiplier))
        x = step(x, channels=last, name=f"features.{number}")
        yield f"features.{number}", x
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        return layers.head(self.num_classes, init=_init, name="classifier.1")(x)

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """Without the last convolution, as in timm."""
        return super().levels_among(maps[:-1])


class V3Block(NamedTuple):
    """A line of tables 1 and 2 of the paper: kernel, channels, whether SE, function, stride.

    `dilation`: of the depthwise convolution.
    """

    kernel: int
    inner: int
    channels: int
    squeeze: bool
    act: Callable
    stride: int
    dilation: int = 1


_RE, _HS = nn.relu, nn.hard_swish
LARGE = (
    V3Block(3, 16, 16, False, _RE, 1),
    V3Block(3, 64, 24, False, _RE, 2),
    V3Block(3, 72, 24, False, _RE, 1),
    V3Block(5, 72, 40, True, _RE, 2),
    V3Block(5, 120, 40, True, _RE, 1),
    V3Block(5, 120, 40, True, _RE, 1),
    V3Block(3, 240, 80, False, _HS, 2),
    V3Block(3, 200, 80, False, _HS, 1),
    V3Block(3, 184, 80, False, _HS, 1),
    V3Block(3, 184, 80, False, _HS, 1),
    V3Block(3, 480, 112, True, _HS, 1),
    V3Block(3, 672, 112, True, _HS, 1),
    V3Block(5, 672, 160, True, _HS, 2),
    V3Block(5, 960, 160, True, _HS, 1),
    V3Block(5, 960, 160, True, _HS, 1),
)
SMALL = (
    V3Block(3, 16, 16, True, _RE, 2),
    V3Block(3, 72, 24, False, _RE, 2),
    V3Block(3, 88, 24, False, _RE, 1),
    V3Block(5, 96, 40, True, _HS, 2),
    V3Block(5, 240, 40, True, _HS, 1),
    V3Block(5, 240, 40, True, _HS, 1),
    V3Block(5, 120, 48, True, _HS, 1),
    V3Block(5, 144, 48, True, _HS, 1),
    V3Block(5, 288, 96, True, _HS, 2),
    V3Block(5, 576, 96, True, _HS, 1),
    V3Block(5, 576, 96, True, _HS, 1),
)


class InvertedResidualV3(Residual):
    """1x1 up, depthwise, squeeze-and-excite, 1x1 down; a shortcut where shapes agree."""

    block: V3Block
    drop_path: float
    layers: Layers
    tells_inner: bool = False  # also the map before the depthwise convolution

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        block, layers = self.block, self.layers
        step = partial(conv_norm_act, layers, train=train)
        y, number = x, 0
        if layers.width("block.0.0", block.inner) != x.shape[-1]:
            y = step(y, channels=block.inner, name="block.0", act=block.act)
            number = 1
        inner = y
        y = step(
            y,
            channels=block.inner,
            kernel=block.kernel,
            stride=block.stride,
            dilation=block.dilation,
            groups=block.inner,
            name=f"block.{number}",
            act=block.act,
        )
        if block.squeeze:
            number += 1
            name, squeezed = f"block.{number}", divisible(block.inner // 4)
            y = SqueezeExcite(squeezed, layers.within(name), gate=nn.hard_sigmoid, name=name)(y)
        y = step(y, channels=block.channels, name=f"block.{number + 1}")
        if x.shape == y.shape:
            y = add_shortcut(x, layers.drop_path(self.drop_path)(y, train))
        return (inner, y) if self.tells_inner else y


class MobileNetV3(Backbone):
    """MobileNet v3 for images [B, H, W, 3].

    Attributes:
      blocks: LARGE or SMALL.
      last: channels before the logits.
      num_classes: number of logits.
      dropout: rate before the last layer.
      drop_path: rate of stochastic depth that a block after the last would have; it rises from 0.
      output_stride: 16 or 32, of the last map; 16: where a block would exceed it, its depthwise
        convolution and those behind it are dilated (torchvision's dilated=True).
      reduced_tail: half the channels from the last strided block on (torchvision's, of SSDLite).
      layers: see `layers.Layers`.
    """

    blocks: Sequence[V3Block]
    last: int
    num_classes: int
    dropout: float = 0.2
    drop_path: float = 0.0
    output_stride: int = 32
    reduced_tail: bool = False
    layers: Layers = Layers()

    def __post_init__(self) -> None:
        check_output_stride(self.output_stride, (16, 32))
        super().__post_init__()

    @property
    def detector_maps(self) -> tuple[str, str]:
        """The maps of SSDLite: within the last strided block, and the last one."""
        return f"features.{self._last_strided}.block.0", f"features.{len(self.blocks) + 1}"

    @property
    def _last_strided(self) -> int:
        strided = (number for number, block in enumerate(self.blocks, 1) if block.stride > 1)
        return max(strided, default=0)

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """Whole blocks alone."""
        return super().levels_among([level for level in maps if ".block." not in level.name])

    @nn.nowrap
    def _tail(self, number: int, block: V3Block) -> V3Block:
        """A block, with half its channels where the tail is reduced."""
        last = self._last_strided
        if not self.reduced_tail or number < last:
            return block
        inner = block.inner // 2 if number > last else block.inner
        return block._replace(inner=inner, channels=block.channels // 2)

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.N: each block, and before the last strided one's depthwise convolution
        features.N.block.0; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.99)
        x = image.astype(layers.dtype)
        step = partial(conv_norm_act, layers, train=train, act=nn.hard_swish)
        x = step(x, channels=16, kernel=3, stride=2, name="features.0")
        yield "features.0", x
        stride = 2
        for number, block in enumerate(self.blocks, 1):
            stride *= block.stride
            block = self._tail(number, block)
            if stride > self.output_stride:
                block = block._replace(stride=1, dilation=2)
            make = layers.block(InvertedResidualV3)
            rate = self.drop_path * (number - 1) / len(self.blocks)
            inner = number == self._last_strided and self.detector_maps[0] in names
            name = f"features.{number}"
            x = make(block, rate, layers.within(name), inner, name=name)(x, train)
            if inner:
                before, x = x
                yield self.detector_maps[0], before
            yield name, x
        number = len(self.blocks) + 1
        x = step(x, channels=6 * x.shape[-1], name=f"features.{number}")
        yield f"features.{number}", x
        last = self.last // 2 if self.reduced_tail else self.last
        x = layers.dense(last, init=_init, name="classifier.0")(global_avg_pool(x))
        x = layers.dropout(self.dropout)(nn.hard_swish(x), train)
        return layers.head(self.num_classes, init=_init, name="classifier.3")(x)


mobilenet_v2 = MobileNetV2
mobilenet_v3_large = partial(MobileNetV3, blocks=LARGE, last=1280)
mobilenet_v3_small = partial(MobileNetV3, blocks=SMALL, last=1024)

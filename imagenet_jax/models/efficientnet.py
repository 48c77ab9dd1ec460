"""EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946), V2 and Lite.

V2: Tan and Le 2021, https://arxiv.org/abs/2104.00298. Lite is TensorFlow's form for phones
(tensorflow/tpu, models/official/efficientnet/lite): no squeeze-and-excite, ReLU6, TensorFlow's
padding, first and last stage not scaled. Names are torchvision's.
"""

import math
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Level, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers, add_shortcut, divisible, kaiming
from imagenet_jax.models.layers.platforms import relu6
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.squeeze_excite import SqueezeExcite
from imagenet_jax.models.mobilenet import conv_norm_act


class Stage(NamedTuple):
    """Blocks of one shape; `fused`: one full convolution for the 1x1 and the depthwise one."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    count: int
    fused: bool = False


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
V2_S = (
    Stage(1, 3, 1, 24, 2, True),
    Stage(4, 3, 2, 48, 4, True),
    Stage(4, 3, 2, 64, 4, True),
    Stage(4, 3, 2, 128, 6),
    Stage(6, 3, 1, 160, 9),
    Stage(6, 3, 2, 256, 15),
)
V2_M = (
    Stage(1, 3, 1, 24, 3, True),
    Stage(4, 3, 2, 48, 5, True),
    Stage(4, 3, 2, 80, 5, True),
    Stage(4, 3, 2, 160, 7),
    Stage(6, 3, 1, 176, 14),
    Stage(6, 3, 2, 304, 18),
    Stage(6, 3, 1, 512, 5),
)
V2_L = (
    Stage(1, 3, 1, 32, 4, True),
    Stage(4, 3, 2, 64, 7, True),
    Stage(4, 3, 2, 96, 7, True),
    Stage(4, 3, 2, 192, 10),
    Stage(6, 3, 1, 224, 19),
    Stage(6, 3, 2, 384, 25),
    Stage(6, 3, 1, 640, 7),
)


class MBConv(Residual):
    """An inverted residual; the shortcut's branch may be dropped for an example.

    Attributes:
      stage: see `Stage`; `stride` may differ from the stage's.
      channels, stride: of this block.
      lite: TensorFlow's padding, ReLU6, no squeeze-and-excite.
      drop_path: rate of stochastic depth.
      layers: see `layers.Layers`.
    """

    stage: Stage
    channels: int
    stride: int
    lite: bool
    drop_path: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        stage, layers = self.stage, self.layers
        step = partial(conv_norm_act, layers, train=train, padding="SAME" if self.lite else None)
        act = relu6 if self.lite else nn.silu
        inner = divisible(x.shape[-1] * stage.expansion)
        y, number = x, 0
        if stage.fused:
            y = step(
                y,
                channels=inner if stage.expansion > 1 else self.channels,
                kernel=stage.kernel,
                stride=self.stride,
                name="block.0",
                act=act,
            )
            if stage.expansion > 1:
                y = step(y, channels=self.channels, name="block.1")
        else:
            if stage.expansion > 1:
                y = step(y, channels=inner, name="block.0", act=act)
                number = 1
            # TensorFlow's fan-out of a depthwise kernel is its size, torch's counts all channels.
            in_tensorflow = nn.initializers.normal(2**0.5 / stage.kernel)
            y = step(
                y,
                channels=inner,
                kernel=stage.kernel,
                stride=self.stride,
                groups=inner,
                init=in_tensorflow if self.lite else kaiming,
                name=f"block.{number}",
                act=act,
            )
            if not self.lite:
                number += 1
                name, squeezed = f"block.{number}", max(1, x.shape[-1] // 4)
                y = SqueezeExcite(squeezed, layers.within(name), act=nn.silu, name=name)(y)
            y = step(y, channels=self.channels, name=f"block.{number + 1}")
        if x.shape != y.shape:
            return y
        return add_shortcut(x, layers.drop_path(self.drop_path)(y, train))


class EfficientNet(Backbone):
    """An EfficientNet for images [B, H, W, 3].

    Attributes:
      stages: B0, V2_S, V2_M or V2_L.
      num_classes: number of logits.
      width, depth: multipliers of channels and of blocks.
      lite: the Lite form.
      last: channels before pooling; 0: four times those of the last stage.
      dropout: rate before the last layer.
      drop_path: rate of stochastic depth that the last block would have; it rises from 0.
      bn_epsilon, bn_momentum: this model's own, see `layers.Layers`.
      layers: see `layers.Layers`.
    """

    stages: Sequence[Stage]
    num_classes: int
    width: float = 1.0
    depth: float = 1.0
    lite: bool = False
    last: int = 0
    dropout: float = 0.2
    drop_path: float = 0.2
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.N: stem, stages and last convolution; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=self.bn_epsilon, bn_momentum=self.bn_momentum)
        x = image.astype(layers.dtype)
        act: Callable = relu6 if self.lite else nn.silu
        step = partial(conv_norm_act, layers, train=train, act=act)
        padding = "SAME" if self.lite else None
        stem = self.stages[0].channels if self.stages[0].fused else 32
        stem = stem if self.lite else divisible(stem * self.width)
        x = step(x, channels=stem, kernel=3, stride=2, name="features.0", padding=padding)
        yield "features.0", x
        counts = self.counts()
        done = 0
        for number, (stage, count) in enumerate(zip(self.stages, counts, strict=True), 1):
            channels = divisible(stage.channels * self.width)
            for index in range(count):
                name = f"features.{number}.{index}"
                x = layers.block(MBConv)(
                    stage,
                    channels,
                    stage.stride if index == 0 else 1,
                    self.lite,
                    self.drop_path * done / sum(counts),
                    layers.within(name),
                    name=name,
                )(x, train)
                done += 1
            yield f"features.{number}", x
        last = self.last or 4 * x.shape[-1]
        x = step(x, channels=last, name=f"features.{len(self.stages) + 1}")
        yield f"features.{len(self.stages) + 1}", x
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return layers.head(self.num_classes, init=init, name="classifier.1")(x)

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """Without the last convolution, as in timm."""
        return super().levels_among(maps[:-1])

    def counts(self) -> list[int]:
        """Blocks of each stage."""
        counts = [math.ceil(stage.count * self.depth) for stage in self.stages]
        if self.lite:
            counts[0], counts[-1] = self.stages[0].count, self.stages[-1].count
        return counts


_B = partial(EfficientNet, stages=B0)
_B_LARGE = partial(_B, bn_epsilon=1e-3, bn_momentum=0.99)
_LITE = partial(EfficientNet, stages=B0, lite=True, last=1280, bn_epsilon=1e-3, bn_momentum=0.99)
_V2 = partial(EfficientNet, last=1280, bn_epsilon=1e-3)
efficientnet_b0 = _B
efficientnet_b1 = partial(_B, width=1.0, depth=1.1)
efficientnet_b2 = partial(_B, width=1.1, depth=1.2, dropout=0.3)
efficientnet_b3 = partial(_B, width=1.2, depth=1.4, dropout=0.3)
efficientnet_b4 = partial(_B, width=1.4, depth=1.8, dropout=0.4)
efficientnet_b5 = partial(_B_LARGE, width=1.6, depth=2.2, dropout=0.4)
efficientnet_b6 = partial(_B_LARGE, width=1.8, depth=2.6, dropout=0.5)
efficientnet_b7 = partial(_B_LARGE, width=2.0, depth=3.1, dropout=0.5)
efficientnet_lite0 = _LITE
efficientnet_lite1 = partial(_LITE, depth=1.1)
efficientnet_lite2 = partial(_LITE, width=1.1, depth=1.2, dropout=0.3)
efficientnet_lite3 = partial(_LITE, width=1.2, depth=1.4, dropout=0.3)
efficientnet_lite4 = partial(_LITE, width=1.4, depth=1.8, dropout=0.3)
efficientnet_v2_s = partial(_V2, stages=V2_S)
efficientnet_v2_m = partial(_V2, stages=V2_M, dropout=0.3)
efficientnet_v2_l = partial(_V2, stages=V2_L, dropout=0.4)

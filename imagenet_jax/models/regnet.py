"""RegNet X and Y (Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678), as torchvision's."""

import itertools
from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers, add_shortcut, divisible
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.squeeze_excite import SqueezeExcite
from imagenet_jax.models.mobilenet import conv_norm_act


class Block(Residual):
    """A residual bottleneck of constant width with a grouped 3x3 convolution."""

    width: int
    stride: int
    group_width: int
    squeezed: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        step = partial(conv_norm_act, self.layers, train=train, channels=self.width)
        y = step(x, name="f.a", act=nn.relu)
        groups = self.width // self.group_width
        y = step(y, kernel=3, stride=self.stride, groups=groups, name="f.b", act=nn.relu)
        if self.squeezed:
            y = SqueezeExcite(self.squeezed, self.layers, name="f.se")(y)
        y = step(y, name="f.c")
        if x.shape != y.shape:
            x = step(x, stride=self.stride, name="proj")
        return nn.relu(add_shortcut(x, y))


class RegNet(Backbone):
    """A network whose widths grow linearly with depth, quantised; for images [B, H, W, 3].

    Attributes:
      depth: blocks.
      w_0, w_a, w_m: width of the first block, its growth per block, ratio between stages.
      group_width: channels of a group of the 3x3 convolutions.
      num_classes: number of logits.
      squeeze_excite: RegNetY.
      layers: see `layers.Layers`.
    """

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int
    num_classes: int
    squeeze_excite: bool = False
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps stem and trunk_output.block1 to trunk_output.block4; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        x = conv_norm_act(layers, x, train, 32, 3, 2, name="stem", act=nn.relu)
        yield "stem", x
        for stage, (width, group_width, count) in enumerate(self.stages(), 1):
            for index in range(count):
                squeezed = round(0.25 * x.shape[-1]) if self.squeeze_excite else 0
                x = layers.block(Block)(
                    width,
                    2 if index == 0 else 1,
                    group_width,
                    squeezed,
                    layers,
                    name=f"trunk_output.block{stage}.block{stage}-{index}",
                )(x, train)
            yield f"trunk_output.block{stage}", x
        init = nn.initializers.normal(0.01)
        return layers.head(self.num_classes, init=init, name="fc")(global_avg_pool(x))

    def stages(self) -> Sequence[tuple[int, int, int]]:
        """(width, width of a group, blocks) of each stage."""
        continuous = np.arange(self.depth) * self.w_a + self.w_0
        level = np.round(np.log(continuous / self.w_0) / np.log(self.w_m))
        widths = (np.round(self.w_0 * self.w_m**level / 8) * 8).astype(int).tolist()
        stages = []
        for width, blocks in itertools.groupby(widths):
            group = min(self.group_width, width)
            stages.append((divisible(width, group), group, len(list(blocks))))
        return stages


_Y = partial(RegNet, squeeze_excite=True)
regnet_y_400mf = partial(_Y, depth=16, w_0=48, w_a=27.89, w_m=2.09, group_width=8)
regnet_y_800mf = partial(_Y, depth=14, w_0=56, w_a=38.84, w_m=2.4, group_width=16)
regnet_y_1_6gf = partial(_Y, depth=27, w_0=48, w_a=20.71, w_m=2.65, group_width=24)
regnet_y_3_2gf = partial(_Y, depth=21, w_0=80, w_a=42.63, w_m=2.66, group_width=24)
regnet_y_8gf = partial(_Y, depth=17, w_0=192, w_a=76.82, w_m=2.19, group_width=56)
regnet_y_16gf = partial(_Y, depth=18, w_0=200, w_a=106.23, w_m=2.48, group_width=112)
regnet_y_32gf = partial(_Y, depth=20, w_0=232, w_a=115.89, w_m=2.53, group_width=232)
regnet_y_128gf = partial(_Y, depth=27, w_0=456, w_a=160.83, w_m=2.52, group_width=264)
regnet_x_400mf = partial(RegNet, depth=22, w_0=24, w_a=24.48, w_m=2.54, group_width=16)
regnet_x_800mf = partial(RegNet, depth=16, w_0=56, w_a=35.73, w_m=2.28, group_width=16)
regnet_x_1_6gf = partial(RegNet, depth=18, w_0=80, w_a=34.01, w_m=2.25, group_width=24)
regnet_x_3_2gf = partial(RegNet, depth=25, w_0=88, w_a=26.31, w_m=2.25, group_width=48)
regnet_x_8gf = partial(RegNet, depth=23, w_0=80, w_a=49.56, w_m=2.88, group_width=120)
regnet_x_16gf = partial(RegNet, depth=22, w_0=216, w_a=55.59, w_m=2.1, group_width=128)
regnet_x_32gf = partial(RegNet, depth=23, w_0=320, w_a=69.86, w_m=2.0, group_width=168)

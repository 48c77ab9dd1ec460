"""Inception v3 (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567), as torchvision's."""

from collections.abc import Callable, Container

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import avg_pool, global_avg_pool
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.truncated_normal(0.1)
_ROW, _COLUMN = (1, 7), (7, 1)

# Modules and their channels: B and D halve height and width.
_MIXED = (
    ("Mixed_5b", "A", 32),
    ("Mixed_5c", "A", 64),
    ("Mixed_5d", "A", 64),
    ("Mixed_6a", "B", 0),
    ("Mixed_6b", "C", 128),
    ("Mixed_6c", "C", 160),
    ("Mixed_6d", "C", 160),
    ("Mixed_6e", "C", 192),
    ("Mixed_7a", "D", 0),
    ("Mixed_7b", "E", 0),
    ("Mixed_7c", "E", 0),
)


class ConvNormRelu(nn.Module):
    """A convolution without bias, BatchNorm, ReLU; padded to keep the size unless strided."""

    channels: int
    kernel: int | tuple[int, int]
    layers: Layers
    stride: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = self.layers.conv(
            self.channels,
            self.kernel,
            self.stride,
            padding=self.padding,
            init=_init,
            name="conv",
        )
        return nn.relu(self.layers.norm(name="bn")(conv(x), train))


class Mixed(nn.Module):
    """An Inception module: branches side by side, of one of the paper's kinds A to E.

    Attributes:
      kind: figures 5 (A), 10 (B, D), 6 (C) and 7 (E) of the paper.
      channels: A: of the pooled branch; C: within the 7x7 branches; B, D, E have fixed ones.
      layers: see `layers.Layers`.
    """

    kind: str
    channels: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(
            x: jax.Array,
            name: str,
            channels: int,
            kernel: int | tuple[int, int] = 1,
            stride: int = 1,
        ) -> jax.Array:
            padding = 0 if stride == 2 else None
            made = ConvNormRelu(channels, kernel, self.layers, stride, padding, name=name)
            return made(x, train)

        branches = {"A": _a, "B": _b, "C": _c, "D": _d, "E": _e}[self.kind](x, conv, self.channels)
        return jnp.concatenate(branches, -1)


def _a(x: jax.Array, conv: Callable, pooled: int) -> list[jax.Array]:
    double = conv(conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3)
    return [
        conv(x, "branch1x1", 64),
        conv(conv(x, "branch5x5_1", 48), "branch5x5_2", 64, 5),
        conv(double, "branch3x3dbl_3", 96, 3),
        conv(avg_pool(x, 3, 1, 1), "branch_pool", pooled),
    ]


def _b(x: jax.Array, conv: Callable, _: int) -> list[jax.Array]:
    double = conv(conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3)
    return [
        conv(x, "branch3x3", 384, 3, 2),
        conv(double, "branch3x3dbl_3", 96, 3, 2),
        max_pool(x, 3, 2),
    ]


def _c(x: jax.Array, conv: Callable, inner: int) -> list[jax.Array]:
    single = conv(conv(x, "branch7x7_1", inner), "branch7x7_2", inner, _ROW)
    double = conv(x, "branch7x7dbl_1", inner)
    for number, kernel in ((2, _COLUMN), (3, _ROW), (4, _COLUMN)):
        double = conv(double, f"branch7x7dbl_{number}", inner, kernel)
    return [
        conv(x, "branch1x1", 192),
        conv(single, "branch7x7_3", 192, _COLUMN),
        conv(double, "branch7x7dbl_5", 192, _ROW),
        conv(avg_pool(x, 3, 1, 1), "branch_pool", 192),
    ]


def _d(x: jax.Array, conv: Callable, _: int) -> list[jax.Array]:
    deep = conv(conv(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, _ROW)
    deep = conv(deep, "branch7x7x3_3", 192, _COLUMN)
    return [
        conv(conv(x, "branch3x3_1", 192), "branch3x3_2", 320, 3, 2),
        conv(deep, "branch7x7x3_4", 192, 3, 2),
        max_pool(x, 3, 2),
    ]


def _e(x: jax.Array, conv: Callable, _: int) -> list[jax.Array]:
    single = conv(x, "branch3x3_1", 384)
    double = conv(conv(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, 3)
    return [
        conv(x, "branch1x1", 320),
        conv(single, "branch3x3_2a", 384, (1, 3)),
        conv(single, "branch3x3_2b", 384, (3, 1)),
        conv(double, "branch3x3dbl_3a", 384, (1, 3)),
        conv(double, "branch3x3dbl_3b", 384, (3, 1)),
        conv(avg_pool(x, 3, 1, 1), "branch_pool", 192),
    ]


class AuxiliaryHead(nn.Module):
    """A classifier on the last layer of 17x17, for training only."""

    num_classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNormRelu(128, 1, self.layers, name="conv0")(avg_pool(x, 5, 3), train)
        x = ConvNormRelu(768, 5, self.layers, padding=0, name="conv1")(x, train)
        init = nn.initializers.truncated_normal(0.001)
        return self.layers.head(self.num_classes, init=init, name="fc")(global_avg_pool(x))


class InceptionV3(Backbone):
    """Inception v3 for images [B, H, W, 3] of 75 pixels or more, 299 in the paper.

    In training, unless maps are asked for, the auxiliary head's logits are sown as "auxiliary"; see
    `losses.auxiliary_loss`.

    Attributes:
      num_classes: number of logits.
      dropout: rate before the last layer.
      auxiliary: have an auxiliary head.
      layers: see `layers.Layers`.
    """

    num_classes: int
    dropout: float = 0.5
    auxiliary: bool = True
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps Conv2d_2b_3x3, Conv2d_4a_3x3 and Mixed_5b to Mixed_7c; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=1e-3)
        auxiliary = self.auxiliary and not names and (train or self.is_initializing())
        x = image.astype(layers.dtype)
        x = ConvNormRelu(32, 3, layers, 2, 0, name="Conv2d_1a_3x3")(x, train)
        x = ConvNormRelu(32, 3, layers, 1, 0, name="Conv2d_2a_3x3")(x, train)
        x = ConvNormRelu(64, 3, layers, name="Conv2d_2b_3x3")(x, train)
        yield "Conv2d_2b_3x3", x
        x = max_pool(x, 3, 2)
        x = ConvNormRelu(80, 1, layers, name="Conv2d_3b_1x1")(x, train)
        x = ConvNormRelu(192, 3, layers, 1, 0, name="Conv2d_4a_3x3")(x, train)
        yield "Conv2d_4a_3x3", x
        x = max_pool(x, 3, 2)
        for name, kind, channels in _MIXED:
            x = layers.block(Mixed)(kind, channels, layers, name=name)(x, train)
            yield name, x
            if name == "Mixed_6e" and auxiliary:
                logits = AuxiliaryHead(self.num_classes, layers, name="AuxLogits")(x, train)
                self.sow("auxiliary", "aux_logits", logits)
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        return layers.head(self.num_classes, init=_init, name="fc")(x)


inception_v3 = InceptionV3

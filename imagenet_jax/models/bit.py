"""BiT: ResNet v2 with GroupNorm and weight standardisation (https://arxiv.org/abs/1912.11370).

Kolesnikov et al. 2019, with the names of timm's resnetv2_*_bit.
"""

import dataclasses
from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.convolution import convolution
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, add_shortcut, kaiming
from imagenet_jax.models.layers.residual import Residual


class StdConv(nn.Module):
    """A convolution whose kernel is standardised for each output channel (Qiao et al. 2019)."""

    features: int
    kernel: int
    stride: int = 1
    layers: Layers = Layers()
    epsilon: float = 1e-8

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", kaiming, shape, jnp.float32)
        mean = kernel.mean((0, 1, 2), keepdims=True)
        var = kernel.var((0, 1, 2), keepdims=True)
        kernel = (kernel - mean) * jax.lax.rsqrt(var + self.epsilon)
        return self.layers.product(convolution)(
            x.astype(self.layers.dtype),
            kernel.astype(self.layers.dtype),
            (self.stride, self.stride),
            [((self.kernel - 1) // 2,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class PreActBottleneck(Residual):
    """Norm and ReLU before each of 1x1 down, 3x3 (strided) and 1x1 up; a shortcut."""

    channels: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dtype = self.layers.dtype
        norm = partial(_group_norm, dtype=dtype)
        y = nn.relu(norm(name="norm1")(x))
        if x.shape[-1] != self.channels or self.stride > 1:
            x = StdConv(self.channels, 1, self.stride, self.layers, name="downsample.conv")(y)
        inner = self.channels // 4
        y = StdConv(inner, 1, 1, self.layers, name="conv1")(y)
        y = nn.relu(norm(name="norm2")(y))
        y = StdConv(inner, 3, self.stride, self.layers, name="conv2")(y)
        y = nn.relu(norm(name="norm3")(y))
        return add_shortcut(x, StdConv(self.channels, 1, 1, self.layers, name="conv3")(y))


def _group_norm(*, dtype: jnp.dtype, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(32, epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name)


class BiT(Backbone):
    """A pre-activation ResNet for images [B, H, W, 3].

    Attributes:
      stage_sizes: blocks per stage.
      num_classes: number of logits.
      width: factor of all channels.
      layers: see `layers.Layers`.
    """

    stage_sizes: Sequence[int]
    num_classes: int
    width: int = 1
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps stem.conv and stages.0 to stages.3, before norm and ReLU; see `Backbone.maps`."""
        layers = self.layers
        x = StdConv(64 * self.width, 7, 2, layers, name="stem.conv")(image)
        yield "stem.conv", x
        # Padded with zeros, not with -inf.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = layers.block(PreActBottleneck)(
                    256 * self.width * 2**stage,
                    2 if stage and not index else 1,
                    layers,
                    name=f"stages.{stage}.blocks.{index}",
                )(x, train)
            yield f"stages.{stage}", x
        x = nn.relu(_group_norm(dtype=layers.dtype, name="norm")(x))
        if not self.num_classes:
            return global_avg_pool(x).astype(wide(layers.dtype))
        # A linear layer, stored as a 1x1 convolution.
        accurate = dataclasses.replace(layers, dtype=wide(layers.dtype))
        inits = layers.head_inits(nn.initializers.zeros)
        head = accurate.conv(self.num_classes, 1, bias=True, **inits, name="head.fc")
        return head(global_avg_pool(x)[:, None, None])[:, 0, 0]


bit_r50x1 = partial(BiT, stage_sizes=(3, 4, 6, 3))
bit_r50x3 = partial(BiT, stage_sizes=(3, 4, 6, 3), width=3)
bit_r101x1 = partial(BiT, stage_sizes=(3, 4, 23, 3))
bit_r101x3 = partial(BiT, stage_sizes=(3, 4, 23, 3), width=3)
bit_r152x2 = partial(BiT, stage_sizes=(3, 8, 36, 3), width=2)
bit_r152x4 = partial(BiT, stage_sizes=(3, 8, 36, 3), width=4)

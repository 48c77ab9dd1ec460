"""NFNet-F (Brock et al. 2021, https://arxiv.org/abs/2102.06171), with the names of timm's dm_nfnet.

No normalisation: kernels are standardised, activations scaled so that variances are known.
Train it with adaptive gradient clipping (optax.adaptive_grad_clip).
"""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.convolution import convolution
from imagenet_jax.models.layers.layers import Layers, add_shortcut, divisible, linear_rates
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.squeeze_excite import SqueezeExcite

_GAMMA = 1.7015043497085571  # keeps the variance of GELU, see the paper
_ALPHA = 0.2  # what a residual branch adds to the variance is its square
_GROUP = 128  # channels of a group of the 3x3 convolutions


def _act(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False) * _GAMMA


class ScaledStdConv(nn.Module):
    """A convolution with a standardised, scaled kernel and TensorFlow's padding."""

    features: int
    kernel: int
    stride: int = 1
    groups: int = 1
    layers: Layers = Layers()
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        gain = self.param("gain", nn.initializers.ones, (self.features, 1, 1, 1), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        scale = gain.reshape(-1) * (shape[0] * shape[1] * shape[2]) ** -0.5
        mean = kernel.mean((0, 1, 2), keepdims=True)
        var = kernel.var((0, 1, 2), keepdims=True)
        kernel = (kernel - mean) * jax.lax.rsqrt(var + self.epsilon)
        kernel *= jax.lax.broadcast_to_rank(scale, kernel.ndim)
        dtype = self.layers.dtype
        x = self.layers.product(convolution)(
            x.astype(dtype),
            kernel.astype(dtype),
            (self.stride, self.stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return x + jax.lax.broadcast_to_rank(bias.astype(dtype), x.ndim)


class NFBlock(Residual):
    """1x1 down, two grouped 3x3, 1x1 up, squeeze-and-excite; a shortcut.

    Attributes:
      channels, stride: of the block.
      beta: one over the expected standard deviation of its input.
      drop_path: rate of stochastic depth.
      layers: see `layers.Layers`.
    """

    channels: int
    stride: int
    beta: float
    drop_path: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        conv = partial(ScaledStdConv, layers=layers)
        y = _act(x) * self.beta
        if x.shape[-1] != self.channels or self.stride > 1:
            x = y
            if self.stride > 1:
                x = nn.avg_pool(
                    x, window_shape=(2, 2), strides=(2, 2), padding="SAME", count_include_pad=False
                )
            x = conv(self.channels, 1, name="downsample.conv")(x)
        inner = self.channels // 2
        y = conv(inner, 1, name="conv1")(y)
        grouped = partial(conv, inner, 3, groups=inner // _GROUP)
        y = grouped(stride=self.stride, name="conv2")(_act(y))
        y = grouped(name="conv2b")(_act(y))
        y = conv(self.channels, 1, name="conv3")(_act(y))
        y = 2 * SqueezeExcite(divisible(self.channels / 2), layers, name="attn_last")(y)
        y = layers.drop_path(self.drop_path)(y, train)
        gain = self.param("skipinit_gain", nn.initializers.zeros, (), jnp.float32)
        return add_shortcut(x, y * (gain * _ALPHA).astype(y.dtype))


class NFNet(Backbone):
    """A network without normalisation, for images [B, H, W, 3].

    Attributes:
      stage_sizes: blocks per stage.
      num_classes: number of logits.
      dropout: rate before the last layer.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
      widths: channels per stage.
      layers: see `layers.Layers`.
    """

    stage_sizes: Sequence[int]
    num_classes: int
    dropout: float = 0.2
    drop_path: float = 0.25
    widths: Sequence[int] = (256, 512, 1536, 1536)
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps stem.conv1 to stem.conv4, stages.0 to stages.3 and final_conv.

        All are before the activation. See `Backbone.maps`.
        """
        layers, x = self.layers, image
        conv = partial(ScaledStdConv, layers=layers)
        stem = zip((16, 32, 64, 128), (2, 1, 1, 2), strict=True)
        for number, (channels, stride) in enumerate(stem, 1):
            x = x if number == 1 else _act(x)
            x = conv(channels, 3, stride, name=f"stem.conv{number}")(x)
            yield f"stem.conv{number}", x
        rates = iter(linear_rates(self.drop_path, sum(self.stage_sizes)))
        variance = 1.0
        for stage, (size, channels) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for index in range(size):
                x = layers.block(NFBlock)(
                    channels,
                    2 if stage and not index else 1,
                    variance**-0.5,
                    next(rates),
                    layers,
                    name=f"stages.{stage}.{index}",
                )(x, train)
                variance = (1.0 if index == 0 else variance) + _ALPHA**2
            yield f"stages.{stage}", x
        x = conv(2 * self.widths[-1], 1, name="final_conv")(x)
        yield "final_conv", x
        x = layers.dropout(self.dropout)(global_avg_pool(_act(x)), train)
        init = nn.initializers.normal(0.01)
        return layers.head(self.num_classes, init=init, name="head.fc")(x)


nfnet_f0 = partial(NFNet, stage_sizes=(1, 2, 6, 3))
nfnet_f1 = partial(NFNet, stage_sizes=(2, 4, 12, 6), dropout=0.3)
nfnet_f2 = partial(NFNet, stage_sizes=(3, 6, 18, 9), dropout=0.4)
nfnet_f3 = partial(NFNet, stage_sizes=(4, 8, 24, 12), dropout=0.4)

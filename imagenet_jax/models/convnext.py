"""ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545) and V2, with timm's names.

V2: Woo et al. 2023, https://arxiv.org/abs/2301.00808.
"""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, add_shortcut, linear_rates, normal_02
from imagenet_jax.models.layers.residual import Residual


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its norm over the pixels against the mean over channels (V2)."""

    dtype: jnp.dtype
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        y = x.astype(wide(self.dtype))
        # At zero the square root has no gradient.
        square = jnp.square(y).sum((1, 2), keepdims=True)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        ratio = norm / (norm.mean(-1, keepdims=True) + self.epsilon)
        bias, scale = (jax.lax.broadcast_to_rank(part, y.ndim) for part in (bias, scale))
        return (y + bias + scale * y * ratio).astype(self.dtype)


class ConvNeXtBlock(Residual):
    """7x7 depthwise, LayerNorm, an MLP of four times the width, layer scale, a shortcut."""

    drop_path: float
    layer_scale: float  # initial value; 0: none, and GlobalResponseNorm in the MLP (V2)
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, channels = self.layers, x.shape[-1]
        y = layers.conv(channels, 7, groups=channels, bias=True, init=normal_02, name="conv_dw")(x)
        y = layers.dense(4 * channels, name="mlp.fc1")(layers.layer_norm(name="norm")(y))
        y = layers.gelu(y)
        if not self.layer_scale:
            y = GlobalResponseNorm(layers.dtype, name="mlp.grn")(y)
        y = layers.dense(channels, name="mlp.fc2")(y)
        if self.layer_scale:
            init = nn.initializers.constant(self.layer_scale)
            gamma = self.param("gamma", init, (channels,), jnp.float32).astype(y.dtype)
            y = y * jax.lax.broadcast_to_rank(gamma, y.ndim)
        return add_shortcut(x, layers.drop_path(self.drop_path)(y, train))


class ConvNeXt(Backbone):
    """Four stages of depthwise convolutions and MLPs, for images [B, H, W, 3].

    Attributes:
      stage_sizes: blocks per stage.
      widths: channels per stage.
      num_classes: number of logits.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
      layer_scale: initial value; 0: version 2.
      layers: see `layers.Layers`.
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    num_classes: int
    drop_path: float = 0.1
    layer_scale: float = 1e-6
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps stages.0 to stages.3, not normalised; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        conv = partial(layers.conv, padding=0, bias=True, init=normal_02)
        x = layers.layer_norm(name="stem.1")(conv(self.widths[0], 4, 4, name="stem.0")(x))
        rates = iter(linear_rates(self.drop_path, sum(self.stage_sizes)))
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            if stage:
                x = layers.layer_norm(name=f"stages.{stage}.downsample.0")(x)
                x = conv(width, 2, 2, name=f"stages.{stage}.downsample.1")(x)
            for index in range(size):
                name = f"stages.{stage}.blocks.{index}"
                make = layers.block(ConvNeXtBlock)
                x = make(next(rates), self.layer_scale, layers, name=name)(x, train)
            yield f"stages.{stage}", x
        x = layers.layer_norm(name="head.norm")(global_avg_pool(x))
        return layers.head(self.num_classes, name="head.fc")(x)


convnext_tiny = partial(ConvNeXt, stage_sizes=(3, 3, 9, 3), widths=(96, 192, 384, 768))
convnext_small = partial(
    ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(96, 192, 384, 768), drop_path=0.4
)
convnext_base = partial(
    ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(128, 256, 512, 1024), drop_path=0.5
)
convnext_large = partial(
    ConvNeXt, stage_sizes=(3, 3, 27, 3), widths=(192, 384, 768, 1536), drop_path=0.5
)
convnextv2_tiny = partial(convnext_tiny, layer_scale=0.0, drop_path=0.2)
convnextv2_base = partial(convnext_base, layer_scale=0.0, drop_path=0.1)
convnextv2_large = partial(convnext_large, layer_scale=0.0, drop_path=0.2)

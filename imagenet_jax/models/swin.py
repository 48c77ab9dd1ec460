"""Swin transformers (Liu et al. 2021, https://arxiv.org/abs/2103.14030), as torchvision's."""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers, add_shortcut, linear_rates, normal_02
from imagenet_jax.models.layers.residual import Residual

_EPSILON = 1e-5


class WindowAttention(nn.Module):
    """Self-attention within (shifted) windows of x [B, H, W, C], with relative positions.

    Attributes:
      heads: of the attention.
      window: height and width of a window in tokens.
      shifted: move the windows by half their size.
      layers: see `layers.Layers`.
    """

    heads: int
    window: int
    shifted: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        window, (batch, height, width, channels) = self.window, x.shape
        # What is missing in the last windows is zeros, which take part, as in torchvision.
        padded = [-(-side // window) * window for side in (height, width)]
        x = jnp.pad(x, ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0)))
        # A window as large as the image has nothing to be shifted to.
        shift = [window // 2 if self.shifted and side > window else 0 for side in padded]
        x = jnp.roll(x, (-shift[0], -shift[1]), (1, 2))
        tokens = _windows(x, window)
        shape = (*tokens.shape[:2], 3, self.heads, channels // self.heads)
        qkv = self.layers.dense(3 * channels, name="qkv")(tokens).reshape(shape)
        bias = self._position_bias()[None]
        if any(shift):
            mask = jnp.asarray(_shift_mask(padded, window, shift))
            bias = bias + jnp.tile(mask, (batch, 1, 1))[:, None]
        y = jax.nn.dot_product_attention(
            qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], bias=bias.astype(x.dtype)
        )
        y = self.layers.dense(channels, name="proj")(y.reshape(tokens.shape))
        y = y.reshape(batch, padded[0] // window, padded[1] // window, window, window, channels)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)
        return jnp.roll(y, shift, (1, 2))[:, :height, :width]

    def _position_bias(self) -> jax.Array:
        """What is added to the attention of each pair of tokens [heads, window^2, window^2]."""
        side = 2 * self.window - 1
        shape = (side * side, self.heads)
        table = self.param("relative_position_bias_table", normal_02, shape, jnp.float32)
        place = np.stack(np.divmod(np.arange(self.window**2), self.window))
        apart = place[:, :, None] - place[:, None] + self.window - 1
        return table[apart[0] * side + apart[1]].transpose(2, 0, 1)


def _windows(x: jax.Array, window: int) -> jax.Array:
    """x [B, H, W, C] to [B * windows, window^2, C]."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def _shift_mask(padded: Sequence[int], window: int, shift: Sequence[int]) -> np.ndarray:
    """-100 between tokens that were not neighbours before the shift [windows, w^2, w^2]."""
    region = np.zeros(padded)
    for axis, (side, step) in enumerate(zip(padded, shift, strict=True)):
        place = np.arange(side)
        part = np.where(place < side - window, 0, np.where(place < side - step, 1, 2))
        region += (3**axis) * (part[:, None] if axis == 0 else part[None])
    of_token = np.asarray(
        region.reshape(padded[0] // window, window, padded[1] // window, window)
        .transpose(0, 2, 1, 3)
        .reshape(-1, window * window)
    )
    return np.where(of_token[:, :, None] != of_token[:, None], -100.0, 0.0).astype(np.float32)


class SwinBlock(Residual):
    """Window attention and an MLP, each after LayerNorm and beside a shortcut."""

    heads: int
    window: int
    shifted: bool
    drop_path: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        norm = partial(layers.layer_norm, epsilon=_EPSILON)
        attention = WindowAttention(self.heads, self.window, self.shifted, layers, name="attn")
        drop_path = layers.drop_path(self.drop_path)
        x = add_shortcut(x, drop_path(attention(norm(name="norm1")(x)), train))
        y = layers.dense(4 * x.shape[-1], name="mlp.0")(norm(name="norm2")(x))
        y = layers.dense(x.shape[-1], name="mlp.3")(layers.gelu(y))
        return add_shortcut(x, layers.drop_path(self.drop_path)(y, train))


class PatchMerging(nn.Module):
    """Joins 2x2 neighbours: half the height and width, twice the channels."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        places = ((0, 0), (1, 0), (0, 1), (1, 1))
        x = jnp.concatenate([x[:, row::2, column::2] for row, column in places], -1)
        x = self.layers.layer_norm(epsilon=_EPSILON, name="norm")(x)
        return self.layers.dense(2 * channels, bias=False, name="reduction")(x)


class Swin(Backbone):
    """Four stages of shifted windows, for images [B, H, W, 3].

    Attributes:
      stage_sizes: blocks per stage.
      width: channels of the first stage, doubled at each stage; a head has 32.
      num_classes: number of logits.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
      window: height and width of a window in tokens.
      layers: see `layers.Layers`.
    """

    stage_sizes: Sequence[int]
    width: int
    num_classes: int
    drop_path: float = 0.2
    window: int = 7
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.1, .3, .5 and .7 of the stages; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        embed = partial(layers.conv, padding=0, bias=True, name="features.0.0")
        x = embed(self.width, 4, 4, init=nn.initializers.lecun_normal())(x)
        x = layers.layer_norm(epsilon=_EPSILON, name="features.0.2")(x)
        rates = iter(linear_rates(self.drop_path, sum(self.stage_sizes)))
        for stage, size in enumerate(self.stage_sizes):
            if stage:
                x = PatchMerging(layers, name=f"features.{2 * stage}")(x)
            for index in range(size):
                x = layers.block(SwinBlock)(
                    x.shape[-1] // 32,
                    self.window,
                    index % 2 == 1,
                    next(rates),
                    layers,
                    name=f"features.{2 * stage + 1}.{index}",
                )(x, train)
            yield f"features.{2 * stage + 1}", x
        x = global_avg_pool(layers.layer_norm(epsilon=_EPSILON, name="norm")(x))
        return layers.head(self.num_classes, name="head")(x)


swin_t = partial(Swin, stage_sizes=(2, 2, 6, 2), width=96)
swin_s = partial(Swin, stage_sizes=(2, 2, 18, 2), width=96, drop_path=0.3)
swin_b = partial(Swin, stage_sizes=(2, 2, 18, 2), width=128, drop_path=0.5)

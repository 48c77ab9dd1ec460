"""MLP-Mixer (Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601), with timm's names."""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Level, Maps
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, add_shortcut, linear_rates
from imagenet_jax.models.layers.mlp import Mlp
from imagenet_jax.models.layers.residual import Residual


class MixerBlock(Residual):
    """An MLP over the tokens, then one over the channels."""

    drop_path: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, channels = self.layers, x.shape[-1]
        drop_path = layers.drop_path(self.drop_path)
        init = nn.initializers.lecun_normal()
        y = layers.layer_norm(name="norm1")(x).swapaxes(1, 2)
        y = Mlp(channels // 2, layers, init=init, name="mlp_tokens")(y, train).swapaxes(1, 2)
        x = add_shortcut(x, drop_path(y, train))
        y = layers.layer_norm(name="norm2")(x)
        y = Mlp(4 * channels, layers, init=init, name="mlp_channels")(y, train)
        return add_shortcut(x, layers.drop_path(self.drop_path)(y, train))


class Mixer(Backbone):
    """MLPs over patches, for images [B, H, W, 3] of the size it was initialised with.

    Attributes:
      patch: height and width of a patch in pixels.
      width, depth: of the blocks.
      num_classes: number of logits.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
      layers: see `layers.Layers`.
    """

    patch: int
    width: int
    depth: int
    num_classes: int
    drop_path: float = 0.0
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps blocks.N; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        embed = partial(layers.conv, padding=0, bias=True, name="stem.proj")
        x = embed(self.width, self.patch, self.patch, init=nn.initializers.lecun_normal())(x)
        batch, height, width, _ = x.shape
        x = x.reshape(batch, height * width, self.width)
        for number, rate in enumerate(linear_rates(self.drop_path, self.depth)):
            x = layers.block(MixerBlock)(rate, layers, name=f"blocks.{number}")(x, train)
            yield f"blocks.{number}", x.reshape(batch, height, width, self.width)
        x = layers.layer_norm(name="norm")(x).mean(1, dtype=wide(x.dtype))
        zeros = nn.initializers.zeros
        return layers.head(self.num_classes, init=zeros, name="head")(x)

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """All blocks, of one stride."""
        return maps


mixer_s32 = partial(Mixer, patch=32, width=512, depth=8)
mixer_s16 = partial(Mixer, patch=16, width=512, depth=8)
mixer_b32 = partial(Mixer, patch=32, width=768, depth=12)
mixer_b16 = partial(Mixer, patch=16, width=768, depth=12)
mixer_l16 = partial(Mixer, patch=16, width=1024, depth=24)

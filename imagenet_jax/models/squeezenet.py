"""SqueezeNet (Iandola et al. 2016, https://arxiv.org/abs/1602.07360), torchvision's form."""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers import Layers, global_avg_pool, max_pool

_init = nn.initializers.variance_scaling(6.0, "fan_in", "uniform")  # kaiming_uniform_


class Fire(nn.Module):
    """1x1 down to `squeeze` channels, then 1x1 and 3x3 side by side up to `expand` each."""

    squeeze: int
    expand: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(self.layers.conv, bias=True, init=_init)
        x = nn.relu(conv(self.squeeze, 1, name="squeeze")(x))
        sides = [conv(self.expand, k, name=f"expand{k}x{k}")(x) for k in (1, 3)]
        return nn.relu(jnp.concatenate(sides, -1))


class SqueezeNet(nn.Module):
    """Fire modules between poolings, for images [B, H, W, 3].

    Attributes:
      stem: channels and kernel of the first convolution, which has stride 2 and no padding.
      pools: numbers in torchvision's Sequential of the 3x3 poolings.
      fires: {number: squeezed channels}; expanded to four times as many on each side.
      num_classes: number of logits.
      dropout: rate before the last convolution.
      layers: see `layers.Layers`.
    """

    stem: tuple[int, int]
    pools: Sequence[int]
    fires: Mapping[int, int]
    num_classes: int
    dropout: float = 0.5
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Logits float32 [B, num_classes]."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        conv = partial(layers.conv, padding=0, bias=True)
        x = nn.relu(conv(*self.stem, 2, init=_init, name="features.0")(x))
        for number in range(2, 13):
            if number in self.pools:
                x = max_pool(x, 3, 2, ceil=True)
            else:
                squeeze = self.fires[number]
                fire = layers.block(Fire)(squeeze, 4 * squeeze, layers, name=f"features.{number}")
                x = fire(x, train)
        x = layers.dropout(self.dropout)(x, train)
        init = nn.initializers.normal(0.01)
        x = nn.relu(conv(self.num_classes, 1, init=init, name="classifier.1")(x))
        return global_avg_pool(x)


squeezenet1_0 = partial(
    SqueezeNet,
    stem=(96, 7),
    pools=(2, 6, 11),
    fires={3: 16, 4: 16, 5: 32, 7: 32, 8: 48, 9: 48, 10: 64, 12: 64},
)
squeezenet1_1 = partial(
    SqueezeNet,
    stem=(64, 3),
    pools=(2, 5, 8),
    fires={3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64},
)

"""Channels scaled by a function of their means."""

from collections.abc import Callable

import flax.linen as nn
import jax

from imagenet_jax.models.layers.layers import Layers


class SqueezeExcite(nn.Module):
    """Scales channels by a function of their means (Hu et al. 2018), as in torchvision.

    Attributes:
      squeezed: channels in between.
      layers: see `Layers`.
      act, gate: functions after the first and the second convolution.
    """

    squeezed: int
    layers: Layers
    act: Callable = nn.relu
    gate: Callable = nn.sigmoid

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.mean((1, 2), keepdims=True)
        y = self.act(self.layers.conv(self.squeezed, 1, bias=True, name="fc1")(y))
        return x * self.gate(self.layers.conv(x.shape[-1], 1, bias=True, name="fc2")(y))

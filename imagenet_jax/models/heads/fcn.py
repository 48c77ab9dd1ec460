"""The fully convolutional head (Long et al. 2015, https://arxiv.org/abs/1411.4038), as
torchvision's."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers


class FCN(nn.Module):
    """A 3x3 convolution to a quarter of the channels, and the logits of each pixel.

    Attributes:
      num_classes: number of logits.
      layers: see `layers.Layers`.
    """

    num_classes: int
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        """Logits [B, h, w, num_classes] of the size of the last of the maps [B, h, w, C]."""
        x, layers = maps[-1], self.layers
        x = layers.conv(x.shape[-1] // 4, 3, init=torch_default, name="0")(x)
        x = nn.relu(layers.norm(name="1")(x, train))
        x = layers.dropout(0.1)(x, train)
        return layers.conv(self.num_classes, 1, bias=True, init=torch_default, name="4")(x)

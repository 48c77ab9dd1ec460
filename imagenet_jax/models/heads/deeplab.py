"""The head of DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587), as torchvision's."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: dilated convolutions side by side, and the map's mean."""

    rates: Sequence[int]
    features: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers

        def step(x: jax.Array, kernel: int, rate: int, conv: str, norm: str) -> jax.Array:
            how = {"dilation": rate, "init": torch_default, "name": conv}
            return nn.relu(
                layers.norm(name=norm)(layers.conv(self.features, kernel, **how)(x), train)
            )

        found = [step(x, 1, 1, "convs.0.0", "convs.0.1")]
        for number, rate in enumerate(self.rates, 1):
            found.append(step(x, 3, rate, f"convs.{number}.0", f"convs.{number}.1"))
        last = len(found)
        mean = step(x.mean((1, 2), keepdims=True), 1, 1, f"convs.{last}.1", f"convs.{last}.2")
        found.append(jnp.broadcast_to(mean, found[0].shape))
        x = step(jnp.concatenate(found, -1), 1, 1, "project.0", "project.1")
        return layers.dropout(0.5)(x, train)


class DeepLabV3(nn.Module):
    """Several fields of view of the last map, and the logits of each pixel.

    Attributes:
      num_classes: number of logits.
      rates: of the dilated convolutions, for maps of stride 8.
      features: channels of each part.
      layers: see `layers.Layers`.
    """

    num_classes: int
    rates: Sequence[int] = (12, 24, 36)
    features: int = 256
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        """Logits [B, h, w, num_classes] of the size of the last of the maps [B, h, w, C]."""
        layers = self.layers
        x = _Pyramid(self.rates, self.features, layers, name="0")(maps[-1], train)
        x = layers.conv(self.features, 3, init=torch_default, name="1")(x)
        x = nn.relu(layers.norm(name="2")(x, train))
        return layers.conv(self.num_classes, 1, bias=True, init=torch_default, name="4")(x)

"""Lite R-ASPP (Howard et al. 2019, https://arxiv.org/abs/1905.02244), as torchvision's."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.resize import bilinear_resize


class LRASPP(nn.Module):
    """The last map, weighted by its own mean, and a finer one.

    Attributes:
      num_classes: number of logits.
      features: channels between.
      layers: see `layers.Layers`.
    """

    num_classes: int
    features: int = 128
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        """Logits [B, h, w, num_classes] of the size of the first of two maps [B, h, w, C]."""
        fine, coarse = maps
        layers = self.layers
        x = layers.conv(self.features, 1, init=torch_default, name="cbr.0")(coarse)
        x = nn.relu(layers.norm(name="cbr.1")(x, train))
        mean = coarse.mean((1, 2), keepdims=True)
        x *= nn.sigmoid(layers.conv(self.features, 1, init=torch_default, name="scale.1")(mean))
        x = bilinear_resize(x, fine.shape[1:3]).astype(x.dtype)
        logits = {"bias": True, "init": torch_default}
        low = layers.conv(self.num_classes, 1, name="low_classifier", **logits)(fine)
        return low + layers.conv(self.num_classes, 1, name="high_classifier", **logits)(x)

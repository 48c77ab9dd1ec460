"""DenseNet (Huang et al. 2016, https://arxiv.org/abs/1608.06993), as torchvision's."""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import avg_pool, global_avg_pool
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 down to four times the growth; norm, ReLU, 3x3; beside its input."""

    growth: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        y = nn.relu(layers.norm(name="norm1")(x, train))
        y = layers.conv(4 * self.growth, 1, init=_init, name="conv1")(y)
        y = nn.relu(layers.norm(name="norm2")(y, train))
        y = layers.conv(self.growth, 3, init=_init, name="conv2")(y)
        return jnp.concatenate([x, layers.dropout(self.dropout)(y, train)], -1)


class Transition(nn.Module):
    """Norm, ReLU, 1x1 down to half the channels, pooling."""

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(self.layers.norm(name="norm")(x, train))
        x = self.layers.conv(x.shape[-1] // 2, 1, init=_init, name="conv")(x)
        return avg_pool(x, 2, 2)


class DenseNet(Backbone):
    """Blocks in which each layer sees all before it, for images [B, H, W, 3].

    Attributes:
      block_sizes: layers per block.
      num_classes: number of logits.
      growth: channels that a layer adds; the stem has twice as many.
      dropout: rate in each layer (0.2 in the paper where there is no augmentation).
      layers: see `layers.Layers`.
    """

    block_sizes: Sequence[int]
    num_classes: int
    growth: int = 32
    dropout: float = 0.0
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.relu0, features.denseblock1 and further, and features.norm5.

        The last has no ReLU behind it, as torchvision's has not. See `Backbone.maps`.
        """
        layers, x = self.layers, image.astype(self.layers.dtype)
        x = layers.conv(2 * self.growth, 7, 2, init=_init, name="features.conv0")(x)
        x = nn.relu(layers.norm(name="features.norm0")(x, train))
        yield "features.relu0", x
        x = max_pool(x, 3, 2, 1)
        for block, size in enumerate(self.block_sizes, 1):
            for number in range(1, size + 1):
                name = f"features.denseblock{block}.denselayer{number}"
                make = layers.block(DenseLayer)
                x = make(self.growth, self.dropout, layers, name=name)(x, train)
            yield f"features.denseblock{block}", x
            if block < len(self.block_sizes):
                x = Transition(layers, name=f"features.transition{block}")(x, train)
        x = layers.norm(name="features.norm5")(x, train)
        yield "features.norm5", x
        return layers.head(self.num_classes, name="classifier")(global_avg_pool(nn.relu(x)))


densenet121 = partial(DenseNet, block_sizes=(6, 12, 24, 16))
densenet161 = partial(DenseNet, block_sizes=(6, 12, 36, 24), growth=48)
densenet169 = partial(DenseNet, block_sizes=(6, 12, 32, 32))
densenet201 = partial(DenseNet, block_sizes=(6, 12, 48, 32))

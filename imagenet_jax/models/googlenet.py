"""GoogLeNet (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842) with BatchNorm, as torchvision.

As there, and in TensorFlow's original, the 5x5 convolutions are 3x3.
"""

from collections.abc import Container

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import adaptive_avg_pool, flatten_as_torch, global_avg_pool
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.normal(0.01)
# {name: channels of the branches: 1x1, (1x1, 3x3), (1x1, 3x3), pooled 1x1}
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class ConvNormRelu(nn.Module):
    """A convolution without bias, BatchNorm, ReLU."""

    channels: int
    kernel: int
    layers: Layers
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.layers.conv(self.channels, self.kernel, self.stride, init=_init, name="conv")(x)
        return nn.relu(self.layers.norm(name="bn")(x, train))


class Inception(nn.Module):
    """Four branches side by side."""

    channels: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        c = self.channels

        def conv(x: jax.Array, name: str, channels: int, kernel: int = 1) -> jax.Array:
            return ConvNormRelu(channels, kernel, self.layers, name=name)(x, train)

        branches = [
            conv(x, "branch1", c[0]),
            conv(conv(x, "branch2.0", c[1]), "branch2.1", c[2], 3),
            conv(conv(x, "branch3.0", c[3]), "branch3.1", c[4], 3),
            conv(max_pool(x, 3, 1, 1), "branch4.1", c[5]),
        ]
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(nn.Module):
    """A classifier on an inner layer, for training only."""

    num_classes: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNormRelu(128, 1, self.layers, name="conv")(adaptive_avg_pool(x, 4), train)
        x = nn.relu(self.layers.dense(1024, init=_init, name="fc1")(flatten_as_torch(x)))
        x = self.layers.dropout(self.dropout)(x, train)
        return self.layers.head(self.num_classes, init=_init, name="fc2")(x)


class GoogLeNet(Backbone):
    """Nine Inception modules, for images [B, H, W, 3].

    In training, unless maps are asked for, the auxiliary heads' logits are sown as "auxiliary"; see
    `losses.auxiliary_loss`.

    Attributes:
      num_classes: number of logits.
      dropout: rate before the last layer.
      auxiliary: have auxiliary heads.
      auxiliary_dropout: rate before their last layers.
      layers: see `layers.Layers`.
    """

    num_classes: int
    dropout: float = 0.2
    auxiliary: bool = True
    auxiliary_dropout: float = 0.7
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps conv1 to conv3 and inception3a to inception5b; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=1e-3)
        auxiliary = self.auxiliary and not names and (train or self.is_initializing())
        x = image.astype(layers.dtype)
        x = ConvNormRelu(64, 7, layers, 2, name="conv1")(x, train)
        yield "conv1", x
        x = max_pool(x, 3, 2, ceil=True)
        x = ConvNormRelu(64, 1, layers, name="conv2")(x, train)
        yield "conv2", x
        x = ConvNormRelu(192, 3, layers, name="conv3")(x, train)
        yield "conv3", x
        for name, channels in _INCEPTIONS.items():
            if name in ("3a", "4a"):
                x = max_pool(x, 3, 2, ceil=True)
            elif name == "5a":
                x = max_pool(x, 2, 2, ceil=True)
            x = layers.block(Inception)(channels, layers, name=f"inception{name}")(x, train)
            yield f"inception{name}", x
            head = {"4a": "aux1", "4d": "aux2"}.get(name)
            if head and auxiliary:
                dropout = self.auxiliary_dropout
                logits = AuxiliaryHead(self.num_classes, dropout, layers, name=head)(x, train)
                self.sow("auxiliary", f"{head}_logits", logits)
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        return layers.head(self.num_classes, init=_init, name="fc")(x)


googlenet = GoogLeNet

"""AlexNet (Krizhevsky 2014, https://arxiv.org/abs/1404.5997), torchvision's one-column form."""

from collections.abc import Container

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import adaptive_avg_pool, flatten_as_torch
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# (number in torchvision's Sequential, channels, kernel, stride, padding, pooled after it)
_CONVOLUTIONS = (
    (0, 64, 11, 4, 2, True),
    (3, 192, 5, 1, 2, True),
    (6, 384, 3, 1, 1, False),
    (8, 256, 3, 1, 1, False),
    (10, 256, 3, 1, 1, True),
)


class AlexNet(Backbone):
    """Five convolutions and three linear layers for images [B, H, W, 3] of 63 pixels or more.

    Attributes:
      num_classes: number of logits.
      dropout: rate before the first two linear layers.
      layers: see `layers.Layers`.
    """

    num_classes: int
    dropout: float = 0.5
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.N after each ReLU and pooling; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        for number, channels, kernel, stride, padding, pooled in _CONVOLUTIONS:
            conv = layers.conv(
                channels,
                kernel,
                stride,
                padding=padding,
                bias=True,
                init=_init,
                name=f"features.{number}",
            )
            x = nn.relu(conv(x))
            yield f"features.{number + 1}", x
            if pooled:
                x = max_pool(x, 3, 2)
                yield f"features.{number + 2}", x
        x = flatten_as_torch(adaptive_avg_pool(x, 6))
        for number in (1, 4):
            x = layers.dropout(self.dropout)(x, train)
            x = nn.relu(layers.dense(4096, init=_init, name=f"classifier.{number}")(x))
        return layers.head(self.num_classes, init=_init, name="classifier.6")(x)


alexnet = AlexNet

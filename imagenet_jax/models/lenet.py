"""LeNet-5 (LeCun et al. 1998) for RGB images of 32 x 32, with ReLU and max-pooling."""

from collections.abc import Container

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import adaptive_avg_pool, flatten_as_torch
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class LeNet(Backbone):
    """Two convolutions and three linear layers for images [B, H, W, 3] of 32 pixels or more."""

    num_classes: int
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps conv1, conv2 (after their ReLU), pool1 and pool2; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        for number, features in ((1, 6), (2, 16)):
            x = layers.conv(features, 5, padding=0, bias=True, init=_init, name=f"conv{number}")(x)
            x = nn.relu(x)
            yield f"conv{number}", x
            x = max_pool(x, 2, 2)
            yield f"pool{number}", x
        x = flatten_as_torch(adaptive_avg_pool(x, 5))
        for number, features in ((1, 120), (2, 84)):
            x = nn.relu(layers.dense(features, init=_init, name=f"fc{number}")(x))
        return layers.head(self.num_classes, name="fc3")(x)


lenet = LeNet

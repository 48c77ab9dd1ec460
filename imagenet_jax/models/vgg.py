"""VGG (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556), also with BatchNorm."""

from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import adaptive_avg_pool, flatten_as_torch
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool


class VGG(Backbone):
    """3x3 convolutions in five stages and three linear layers, for images [B, H, W, 3].

    Attributes:
      convolutions: in each stage.
      num_classes: number of logits.
      batch_norm: normalise after each convolution.
      dropout: rate after the first two linear layers.
      ceil_pool: the third pooling keeps what is left of an odd side, as in SSD.
      layers: see `layers.Layers`.
    """

    convolutions: Sequence[int]
    num_classes: int
    batch_norm: bool = False
    dropout: float = 0.5
    ceil_pool: bool = False
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.N after each ReLU and pooling; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        number = 0  # in torchvision's Sequential
        for count, channels in zip(self.convolutions, (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                x = layers.conv(channels, bias=True, name=f"features.{number}")(x)
                if self.batch_norm:
                    number += 1
                    x = layers.norm(name=f"features.{number}")(x, train)
                x = nn.relu(x)
                yield f"features.{number + 1}", x
                number += 2
            x = max_pool(x, 2, 2, ceil=self.ceil_pool and channels == 256)
            yield f"features.{number}", x
            number += 1
        x = flatten_as_torch(adaptive_avg_pool(x, 7))
        init = nn.initializers.normal(0.01)
        for number in (0, 3):
            x = nn.relu(layers.dense(4096, init=init, name=f"classifier.{number}")(x))
            x = layers.dropout(self.dropout)(x, train)
        return layers.head(self.num_classes, init=init, name="classifier.6")(x)


vgg11 = partial(VGG, convolutions=(1, 1, 2, 2, 2))
vgg13 = partial(VGG, convolutions=(2, 2, 2, 2, 2))
vgg16 = partial(VGG, convolutions=(2, 2, 3, 3, 3))
vgg19 = partial(VGG, convolutions=(2, 2, 4, 4, 4))
vgg11_bn = partial(vgg11, batch_norm=True)
vgg13_bn = partial(vgg13, batch_norm=True)
vgg16_bn = partial(vgg16, batch_norm=True)
vgg19_bn = partial(vgg19, batch_norm=True)

"""SqueezeNet (Iandola et al. 2016, https://arxiv.org/abs/1602.07360), torchvision's form."""

import dataclasses
from collections.abc import Container, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_init = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")  # kaiming_uniform_


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


class SqueezeNet(Backbone):
    """Fire modules between poolings, for images [B, H, W, 3].

    Attributes:
      stem: channels and kernel of the first convolution, which has stride 2 and no padding.
      squeezed: channels of the fire modules, expanded to four times as many on each side; 0: a
        3x3 pooling. The first has the number 2 in torchvision's Sequential.
      num_classes: number of logits.
      dropout: rate before the last convolution.
      layers: see `layers.Layers`.
    """

    stem: tuple[int, int]
    squeezed: Sequence[int]
    num_classes: int
    dropout: float = 0.5
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps features.1 (a ReLU) and features.N of the fire modules; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        conv = partial(layers.conv, padding=0, bias=True)
        x = nn.relu(conv(*self.stem, 2, init=_init, name="features.0")(x))
        yield "features.1", x
        for number, squeeze in enumerate(self.squeezed, 2):
            if not squeeze:
                x = max_pool(x, 3, 2, ceil=True)
                continue
            fire = layers.block(Fire)(squeeze, 4 * squeeze, layers, name=f"features.{number}")
            x = fire(x, train)
            yield f"features.{number}", x
        x = layers.dropout(self.dropout)(x, train)
        head = dataclasses.replace(layers, conv_init="")
        inits = layers.head_inits(nn.initializers.normal(0.01))
        classify = head.conv(
            self.num_classes, 1, padding=0, bias=True, **inits, name="classifier.1"
        )
        x = nn.relu(classify(x))
        return global_avg_pool(x)


squeezenet1_0 = partial(
    SqueezeNet, stem=(96, 7), squeezed=(0, 16, 16, 32, 0, 32, 48, 48, 64, 0, 64)
)
squeezenet1_1 = partial(
    SqueezeNet, stem=(64, 3), squeezed=(0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64)
)

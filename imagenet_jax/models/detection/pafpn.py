"""YOLOX's pyramid: from coarse to fine and back (after Liu et al. 2018, PANet), as in its code."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.darknet import ConvNormAct, CSPLayer, conv3x3
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.resize import nearest_double


class PAFPN(nn.Module):
    """Maps of images [B, S, S, 3].

    Attributes:
      body: the backbone.
      names: its three maps, from fine to coarse.
      features: channels of the first one; the others have two and four times as many.
      blocks: bottlenecks of each stage.
      depthwise: whether 3x3 convolutions are depthwise.
      layers: see `layers.Layers`.
    """

    body: Backbone
    names: Sequence[str]
    features: int
    blocks: int = 1
    depthwise: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> list[jax.Array]:
        """Three maps, from fine to coarse."""
        found = self.body.features(image, train, self.names)
        fine, middle, coarse = (found[name] for name in self.names)
        layers, width = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.97), self.features

        def narrowed(x: jax.Array, width: int, name: str) -> jax.Array:
            return ConvNormAct(width, 1, layers, name=name)(x, train)

        def joined(one: jax.Array, other: jax.Array, width: int, name: str) -> jax.Array:
            stage = CSPLayer(width, self.blocks, self.depthwise, False, layers, name=name)
            return stage(jnp.concatenate([one, other], -1), train)

        smaller = partial(conv3x3, depthwise=self.depthwise, layers=layers, stride=2)
        coarse = narrowed(coarse, 2 * width, "lateral_conv0")
        middle = joined(_larger(coarse, middle), middle, 2 * width, "C3_p4")
        middle = narrowed(middle, width, "reduce_conv1")
        fine = joined(_larger(middle, fine), fine, width, "C3_p3")
        down = smaller(width, name="bu_conv2")(fine, train)
        middle = joined(down, middle, 2 * width, "C3_n3")
        down = smaller(2 * width, name="bu_conv1")(middle, train)
        return [fine, middle, joined(down, coarse, 4 * width, "C3_n4")]


def _larger(x: jax.Array, like: jax.Array) -> jax.Array:
    return nearest_double(x, like.shape[1:3])

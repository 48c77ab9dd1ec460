"""Inception-ResNet v1 (Szegedy et al. 2016, https://arxiv.org/abs/1602.07261).

As facenet-pytorch's, which is the network of David Sandberg's FaceNet, for faces of 160 pixels: its
last block has no ReLU, and the last layer gives 512 numbers.
"""

from collections.abc import Callable, Container
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool
from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.models.layers.residual import Residual

_init = nn.initializers.truncated_normal(0.1)  # of FaceNet, before which there was TF-Slim's
_EPSILON = 1e-3


class ConvNormRelu(nn.Module):
    """A convolution without bias, BatchNorm, ReLU; padded to keep the size, or not at all."""

    channels: int
    kernel: int | tuple[int, int]
    layers: Layers
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        padding = None if self.padded else 0
        conv = self.layers.conv(
            self.channels, self.kernel, self.stride, padding=padding, init=_init, name="conv"
        )
        return nn.relu(self.layers.norm(name="bn")(conv(x), train))


# Channels and kernel of each convolution of each branch.
Branches = tuple[tuple[tuple[int, int | tuple[int, int]], ...], ...]


class Block(NamedTuple):
    """A residual block: its branches, and the factor of what it adds."""

    branches: Branches
    scale: float
    relu: bool = True  # after the sum


_BLOCK35 = Block((((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3))), 0.17)
_BLOCK17 = Block((((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1)))), 0.1)
_BLOCK8 = Block((((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1)))), 0.2)
_LAST = _BLOCK8._replace(scale=1.0, relu=False)

# The last convolution of each branch has a stride of 2; beside them is a maximum.
_MIXED_6A: Branches = (((384, 3),), ((192, 1), (192, 3), (256, 3)))
_MIXED_7A: Branches = (
    ((256, 1), (384, 3)),
    ((256, 1), (256, 3)),
    ((256, 1), (256, 3), (256, 3)),
)
_STAGES = (
    ("repeat_1", _BLOCK35, 5, ("mixed_6a", _MIXED_6A)),
    ("repeat_2", _BLOCK17, 10, ("mixed_7a", _MIXED_7A)),
    ("repeat_3", _BLOCK8, 5, None),
)


def _branches(
    x: jax.Array, train: bool, branches: Branches, layers: Layers, last: Callable[..., nn.Module]
) -> list[jax.Array]:
    """The outputs of branches side by side, named as torch does: a row of one has no number."""
    outputs = []
    for branch, row in enumerate(branches):
        y = x
        for number, (channels, kernel) in enumerate(row):
            name = f"branch{branch}" + (f".{number}" if len(row) > 1 else "")
            make = last if number == len(row) - 1 else ConvNormRelu
            y = make(channels, kernel, layers, name=name)(y, train)
        outputs.append(y)
    return outputs


def _halved(*args: int, **fields: str) -> ConvNormRelu:
    return ConvNormRelu(*args, stride=2, padded=False, **fields)


class InceptionResidual(Residual):
    """Branches side by side, joined, brought to the channels of x, scaled and added to it."""

    block: Block
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        outputs = _branches(x, train, self.block.branches, self.layers, ConvNormRelu)
        up = self.layers.conv(x.shape[-1], 1, bias=True, init=_init, name="conv2d")
        y = up(jnp.concatenate(outputs, -1)) * self.block.scale + x
        return nn.relu(y) if self.block.relu else y


class Reduction(nn.Module):
    """Branches that halve height and width, beside a maximum."""

    branches: Branches
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        outputs = _branches(x, train, self.branches, self.layers, _halved)
        return jnp.concatenate([*outputs, max_pool(x, 3, 2)], -1)


class InceptionResNetV1(Backbone):
    """Inception-ResNet v1 for images [B, H, W, 3] of 75 pixels or more, 160 for faces.

    As a classifier it has its logits where facenet-pytorch has the embedding, from `last_linear`,
    which has no bias: neither `last_bn` nor the `logits` that `classify=True` puts behind that.
    With `heads.embedder` around it and 512 outputs it is facenet-pytorch's network of embeddings.

    Attributes:
      num_classes: number of logits.
      dropout: rate before the last layer.
      layers: see `layers.Layers`.
    """

    num_classes: int
    dropout: float = 0.6
    layers: Layers = Layers()
    norm_name = "last_bn"

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps conv2d_2b, conv2d_4a, conv2d_4b, repeat_1.N, mixed_6a, repeat_2.N, mixed_7a,
        repeat_3.N and block8; see `Backbone.maps`."""
        layers = self.layers.own(bn_epsilon=_EPSILON)
        x = image.astype(layers.dtype)
        x = _halved(32, 3, layers, name="conv2d_1a")(x, train)
        x = ConvNormRelu(32, 3, layers, padded=False, name="conv2d_2a")(x, train)
        x = ConvNormRelu(64, 3, layers, name="conv2d_2b")(x, train)
        yield "conv2d_2b", x
        x = ConvNormRelu(80, 1, layers, name="conv2d_3b")(max_pool(x, 3, 2), train)
        x = ConvNormRelu(192, 3, layers, padded=False, name="conv2d_4a")(x, train)
        yield "conv2d_4a", x
        x = _halved(256, 3, layers, name="conv2d_4b")(x, train)
        yield "conv2d_4b", x
        for stage, block, count, reduction in _STAGES:
            for number in range(count):
                name = f"{stage}.{number}"
                x = layers.block(InceptionResidual)(block, layers, name=name)(x, train)
                yield name, x
            if reduction:
                name, branches = reduction
                x = layers.block(Reduction)(branches, layers, name=name)(x, train)
                yield name, x
        x = layers.block(InceptionResidual)(_LAST, layers, name="block8")(x, train)
        yield "block8", x
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        return layers.head(self.num_classes, init=_init, bias=False, name="last_linear")(x)

    @nn.nowrap
    def embedding_norm(self) -> BatchNorm:
        """With the epsilon of the others."""
        return self.layers.own(bn_epsilon=_EPSILON).norm(name=self.norm_name)


inception_resnet_v1 = InceptionResNetV1

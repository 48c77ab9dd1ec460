"""The second stage of R-CNNs: the class of a box's features, and how the box has to be moved."""

import dataclasses

import flax.linen as nn
import jax

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers


class _TwoLayers(nn.Module):
    """Two linear layers on all features of a box."""

    width: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        x = _flat(x)
        for name in ("fc6", "fc7"):
            x = nn.relu(self.layers.dense(self.width, init=torch_default, name=name)(x))
        return x


class _Convolutions(nn.Module):
    """Convolutions with norms, and a linear layer."""

    width: int
    depth: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        boxes, channels = x.shape[1], x.shape[-1]
        # Statistics are over the boxes of so many images.
        group = self.layers.bn_group_size * boxes
        layers = dataclasses.replace(self.layers, bn_group_size=group)
        flat = x.reshape(-1, *x.shape[2:])
        for number in range(self.depth):
            flat = layers.conv(channels, 3, name=f"{number}.0")(flat)
            flat = nn.relu(layers.norm(name=f"{number}.1")(flat, train))
        x = _flat(flat.reshape(*x.shape[:2], *flat.shape[1:]))
        name = str(self.depth + 1)  # a layer of torch's flattens
        return nn.relu(layers.dense(self.width, init=torch_default, name=name)(x))


def _flat(x: jax.Array) -> jax.Array:
    """[B, R, h, w, C] as [B, R, C * h * w], as torch has it."""
    return x.transpose(0, 1, 4, 2, 3).reshape(*x.shape[:2], -1)


class _Predictor(nn.Module):
    classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = x.astype(wide(self.layers.dtype))
        logits = self.layers.head(self.classes, init=torch_default, name="cls_score")(x)
        moves = self.layers.head(4 * self.classes, init=torch_default, name="bbox_pred")(x)
        return logits, moves.reshape(*moves.shape[:-1], self.classes, 4)


class RoIHeads(nn.Module):
    """What is told of boxes from their features.

    Attributes:
      classes: K + 1, the first being the background.
      width: of the linear layers.
      convolutions: before them; 0: none, and two linear layers.
      layers: see `layers.Layers`.
    """

    classes: int
    width: int = 1024
    convolutions: int = 0
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Logits float32 [B, R, classes] and offsets float32 [B, R, classes, 4] of features
        [B, R, h, w, C]."""
        if self.convolutions:
            head = _Convolutions(self.width, self.convolutions, self.layers, name="box_head")
        else:
            head = _TwoLayers(self.width, self.layers, name="box_head")
        return _Predictor(self.classes, self.layers, name="box_predictor")(head(features, train))

"""The second stage of R-CNNs: the class of a box's features, and how the box has to be moved."""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

from imagenet_jax.models.detection.masks import PLACES as MASK_PLACES
from imagenet_jax.models.detection.masks import mask_logits
from imagenet_jax.models.detection.roi_align import roi_align
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


_PLACES = 7  # along an axis of a box's features


class RoIHeads(nn.Module):
    """What is told of boxes from their features, and of masks in them.

    Attributes:
      strides: of the maps that boxes are cut out of.
      classes: K + 1, the first being the background.
      width: of the linear layers.
      convolutions: before them, with norms; 0: none, and two linear layers.
      mask_depth: convolutions before the masks.
      layers: see `layers.Layers`.
    """

    strides: tuple[int, ...]
    classes: int
    width: int = 1024
    convolutions: int = 0
    mask_depth: int = 4
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self,
        maps: Sequence[jax.Array],
        boxes: jax.Array,
        train: bool,
        to_mask: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Logits float32 [B, R, classes] and offsets float32 [B, R, classes, 4] of boxes [B, R, 4].

        And the logits of masks [B, D, 28, 28] of the boxes [B, D, 4] that `to_mask` gives of these,
        with their labels int [B, D], 0 being the background; None without it.
        """
        features = roi_align(maps, boxes, self.strides, _PLACES)
        if self.convolutions:
            head = _Convolutions(self.width, self.convolutions, self.layers, name="box_head")
        else:
            head = _TwoLayers(self.width, self.layers, name="box_head")
        predict = _Predictor(self.classes, self.layers, name="box_predictor")
        logits, moves = predict(head(features, train))
        if to_mask is None:
            return logits, moves, None
        inside, labels = to_mask(logits, moves)
        features = roi_align(maps, inside, self.strides, MASK_PLACES)
        norms = bool(self.convolutions)
        masks = (self.classes, self.mask_depth, norms, self.layers, train)
        return logits, moves, mask_logits(features, labels, *masks)

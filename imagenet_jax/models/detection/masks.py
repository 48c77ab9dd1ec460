"""The third stage of Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870): masks of boxes.

Masks are shares of the parts of a box, from 0 to 1: no pixels of an image.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, kaiming

PLACES = 14  # along an axis of a box's features, half as many as of its mask
_SAMPLES = 2  # of a target's part, along each axis


class TransposedConv(nn.Module):
    """torch's ConvTranspose2d with a kernel and a stride of 2: each place becomes 2 x 2 of them.

    Attributes:
      features: channels of the result.
      dtype: of the computation.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, 2 h, 2 w, features] of x [N, h, w, C]."""
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("transposed_kernel", kaiming, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        found = jnp.einsum("nhwc,ijcd->nhiwjd", x, kernel)
        found = found.reshape(x.shape[0], 2 * x.shape[1], 2 * x.shape[2], -1)
        return found + jax.lax.broadcast_to_rank(bias, 4)


class _OfOneClass(nn.Module):
    """A 1x1 convolution to a map of each class; that of a box's own class alone is computed."""

    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """[N, h, w] of x [N, h, w, C] and labels int [N]."""
        kernel = self.param("kernel", kaiming, (1, 1, x.shape[-1], self.classes), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.classes,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        mine = kernel[0, 0].T[labels]
        return jnp.einsum("nhwc,nc->nhw", x, mine) + bias[labels][:, None, None]


class _Convolutions(nn.Module):
    depth: int
    norms: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for number in range(self.depth):
            how = {"bias": not self.norms, "init": kaiming, "name": f"{number}.0"}
            x = self.layers.conv(x.shape[-1], 3, **how)(x)
            if self.norms:
                x = self.layers.norm(name=f"{number}.1")(x, train)
            x = nn.relu(x)
        return x


class _Predictor(nn.Module):
    classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        larger = TransposedConv(x.shape[-1], self.layers.dtype, name="conv5_mask")
        x = nn.relu(larger(x)).astype(wide(self.layers.dtype))
        return _OfOneClass(self.classes, x.dtype, name="mask_fcn_logits")(x, labels)


def mask_logits(
    features: jax.Array,
    labels: jax.Array,
    classes: int,
    depth: int,
    norms: bool,
    layers: Layers,
    train: bool,
) -> jax.Array:
    """Logits float32 [B, R, 2 h, 2 w] of the masks of boxes; within the module of the heads.

    Args:
      features: of the boxes, [B, R, h, w, C].
      labels: of the boxes, int [B, R], 0 being the background.
      classes: K + 1.
      depth: number of convolutions before the last ones.
      norms: whether they have norms.
      layers: makes the layers.
      train: whether these are in training mode.
    """
    boxes = features.shape[1]
    # Statistics are over the boxes of so many images.
    layers = dataclasses.replace(layers, bn_group_size=layers.bn_group_size * boxes)
    x = features.reshape(-1, *features.shape[2:])
    x = _Convolutions(depth, norms, layers, name="mask_head")(x, train)
    logits = _Predictor(classes, layers, name="mask_predictor")(x, labels.reshape(-1))
    return logits.reshape(-1, boxes, *logits.shape[1:])


def mask_targets(
    masks: jax.Array, objects: jax.Array, boxes: jax.Array, matched: jax.Array, size: int
) -> jax.Array:
    """What the masks of boxes should be, [B, R, size, size].

    torchvision's project_masks_on_boxes, with two samples of each part along each axis, where it
    has as many as the part has pixels.

    Args:
      masks: of the objects, within their own boxes, [B, M, S, S] of 0 to 1.
      objects: their boxes, [B, M, 4].
      boxes: [B, R, 4].
      matched: number of each box's object, int [B, R].
      size: places along an axis.
    """
    return jax.vmap(jax.vmap(_target, (None, None, 0, 0, None)), (0, 0, 0, 0, None))(
        masks, objects, boxes, jnp.maximum(matched, 0), size
    )


def _target(
    masks: jax.Array, objects: jax.Array, box: jax.Array, which: jax.Array, size: int
) -> jax.Array:
    """Of one box [size, size]."""
    mask, inside = masks[which], objects[which]
    rows = _weights(box[1], box[3], inside[1], inside[3], size, mask.shape[0])
    columns = _weights(box[0], box[2], inside[0], inside[2], size, mask.shape[1])
    return rows @ mask @ columns.T


def _weights(
    low: jax.Array, high: jax.Array, first: jax.Array, last: jax.Array, size: int, side: int
) -> jax.Array:
    """What each part of a mask from `first` to `last` counts in each of a box's parts [size, side];
    beside the mask there is nothing."""
    step = jnp.maximum(high - low, 1.0) / size
    numbers = (jnp.arange(size * _SAMPLES, dtype=low.dtype) + 0.5) / _SAMPLES
    at = low + numbers * step
    # torchvision's RoIAlign takes pixel i to be at i, not at its centre.
    at = (at + 0.5 - first) * side / jnp.maximum(last - first, 1e-3) - 0.5
    weights = jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(side, dtype=at.dtype)[None]), 0)
    return weights.reshape(size, _SAMPLES, side).mean(1)

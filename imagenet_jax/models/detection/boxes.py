"""Boxes (left, top, right, bottom) in pixels: overlaps, and what they are relative to anchors."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

_LARGEST = math.log(1000 / 16)  # of a logarithm of sides, before exp
_EPSILON = 1e-7


def area(boxes: jax.Array) -> jax.Array:
    """Areas [...] of boxes [..., 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(one: jax.Array, other: jax.Array) -> jax.Array:
    """The common area [...] of boxes [..., 4] that broadcast against each other."""
    low = jnp.maximum(one[..., :2], other[..., :2])
    high = jnp.minimum(one[..., 2:], other[..., 2:])
    sides = jnp.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(one: jax.Array, other: jax.Array) -> jax.Array:
    """Intersection over union [..., N, M] of boxes [..., N, 4] and [..., M, 4]; 0 of no area."""
    one, other = one[..., :, None, :], other[..., None, :, :]
    common = intersection(one, other)
    union = area(one) + area(other) - common
    return common / jnp.where(union > 0, union, 1)


def generalized_iou(one: jax.Array, other: jax.Array) -> jax.Array:
    """Generalized IoU [...] of boxes [..., 4], from -1 to 1.

    Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630, with torchvision's epsilon.
    """
    common = intersection(one, other)
    union = area(one) + area(other) - common
    low = jnp.minimum(one[..., :2], other[..., :2])
    high = jnp.maximum(one[..., 2:], other[..., 2:])
    around = area(jnp.concatenate([low, high], -1))
    return common / (union + _EPSILON) - (around - union) / (around + _EPSILON)


def encode(
    boxes: jax.Array, anchors: jax.Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """What a regression is trained to say of boxes [..., 4], given their anchors (R-CNN's coding).

    Shifts of the centre over the anchor's sides and logarithms of the sides' ratios, (x, y, width,
    height), multiplied by `weights`.
    """
    (x, y, width, height), (other_x, other_y, other_width, other_height) = (
        _centred(boxes),
        _centred(anchors),
    )
    parts = (
        weights[0] * (x - other_x) / other_width,
        weights[1] * (y - other_y) / other_height,
        weights[2] * jnp.log(width / other_width),
        weights[3] * jnp.log(height / other_height),
    )
    return jnp.stack(parts, -1)


def decode(
    offsets: jax.Array, anchors: jax.Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """The boxes [..., 4] of what `encode` gives of as many anchors.

    Their sides are at most 62.5 times those of the anchors.
    """
    x, y, width, height = _centred(anchors)
    right, down, wide, high = (
        part / weight for part, weight in zip(jnp.moveaxis(offsets, -1, 0), weights, strict=True)
    )
    x, y = x + right * width, y + down * height
    width = width * jnp.exp(jnp.minimum(wide, _LARGEST))
    height = height * jnp.exp(jnp.minimum(high, _LARGEST))
    return jnp.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def encode_distances(boxes: jax.Array, anchors: jax.Array) -> jax.Array:
    """Distances [..., 4] from the anchors' centres to the boxes' edges, over the anchors' sides.

    Left, top, right, bottom (FCOS); negative where a centre is outside.
    """
    x, y, width, height = _centred(anchors)
    distances = (x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y)
    return jnp.stack(distances, -1) / jnp.stack([width, height, width, height], -1)


def decode_distances(distances: jax.Array, anchors: jax.Array) -> jax.Array:
    """The boxes [..., 4] of what `encode_distances` gives."""
    x, y, width, height = _centred(anchors)
    left, top, right, bottom = jnp.moveaxis(distances, -1, 0)
    sides = (x - left * width, y - top * height, x + right * width, y + bottom * height)
    return jnp.stack(sides, -1)


def _centred(boxes: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The centres and the sides: x, y, width, height, [...] each."""
    left, top, right, bottom = jnp.moveaxis(jnp.asarray(boxes), -1, 0)
    width, height = right - left, bottom - top
    return left + width / 2, top + height / 2, width, height

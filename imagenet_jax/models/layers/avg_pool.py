"""Averages over pixels, with the conventions of torch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.platforms import PLAIN, lowering_for


def avg_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """torch's AvgPool2d of x [B, H, W, C]; padding counts as zeros."""
    how = {"window_shape": (window, window), "strides": (stride, stride)}
    if lowering_for.value == PLAIN:  # see `max_pool`
        pads = [(0, 0), *[(padding, padding)] * 2, (0, 0)]
        return nn.avg_pool(jnp.pad(x, pads), **how, padding="VALID")
    return nn.avg_pool(x, **how, padding=[(padding, padding)] * 2)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """torch's AdaptiveAvgPool2d of x [B, H, W, C] to [B, size, size, C]."""
    for axis in (1, 2):
        side = x.shape[axis]
        if side != size:
            weight = jnp.array([_bin(number, side, size) for number in range(size)], x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, weight, (axis, 1)), -1, axis)
    return x


def _bin(number: int, side: int, size: int) -> list[float]:
    """The weights of the values of one average."""
    begin, end = number * side // size, -(-(number + 1) * side // size)
    return [1 / (end - begin) if begin <= at < end else 0.0 for at in range(side)]


def global_avg_pool(x: jax.Array) -> jax.Array:
    """The mean [B, C] over the pixels of x [B, H, W, C], in float32 at least."""
    return x.mean((1, 2), dtype=wide(x.dtype))


def flatten_as_torch(x: jax.Array) -> jax.Array:
    """x [B, H, W, C] to [B, C * H * W]: channels first, as a torch linear layer expects."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)

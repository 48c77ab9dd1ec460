"""The first convolution of a model, of images with three channels."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.platforms import GPU, choose


def image_conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """jax.lax.conv_general_dilated of x [B, H, W, C] by kernel [K, K, C, D] with one stride.

    On a GPU the pixels of a stride become channels, padded to a multiple of 8: for three channels
    cuDNN's kernels are slow.
    """
    size, stride = len(kernel), strides[0]

    def space_to_depth(x: jax.Array, kernel: jax.Array) -> jax.Array:
        count = -(-size // stride)
        sides = [
            (side + sum(pad) - size) // stride + count
            for side, pad in zip(x.shape[1:3], padding, strict=True)
        ]
        edges = [
            (low, stride * blocks - side - low, 0)
            for blocks, side, (low, _) in zip(sides, x.shape[1:3], padding, strict=True)
        ]
        more = -(stride**2 * x.shape[3]) % 8

        def to_channels(y: jax.Array, blocks: Sequence[int]) -> jax.Array:
            """[..., blocks[0] * stride, blocks[1] * stride, C] to [..., *blocks, channels]."""
            y = y.reshape(-1, blocks[0], stride, blocks[1], stride, x.shape[3]).swapaxes(2, 3)
            y = y.reshape(-1, *blocks, stride**2 * x.shape[3])
            return jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, more)))

        zero = x.dtype.type(0)
        x = jax.lax.pad(x, zero, [(0, 0, 0), *edges, (0, 0, 0)])
        rest = count * stride - size
        kernel = jnp.pad(kernel, ((0, rest), (0, rest), (0, 0), (0, 0)))
        kernel = to_channels(jnp.moveaxis(kernel, 3, 0), (count, count))
        return jax.lax.conv_general_dilated(
            to_channels(x, sides),
            jnp.moveaxis(kernel, 0, 3),
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    plain = partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    return choose(GPU, space_to_depth, plain, x, kernel)

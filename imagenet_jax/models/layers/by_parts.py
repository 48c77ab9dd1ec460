"""Convolutions of a part of the batch at a time, for CPUs.

XLA's CPU compiler runs a convolution with few outputs on a single core, and one of many images from
memory, not from the caches; a kernel's gradient reads all of them anew for each of its values.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.bilinear import bilinear
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.window import Window

_FIT = 32  # images whose maps a core's caches hold, more or less
_MOST = 32  # parts: each is a convolution that has to be compiled


def gains(shape: Sequence[int], kernel: Sequence[int], window: Window) -> bool:
    """Whether x [B, H, W, C] is better convolved in parts, or one of the gradients is."""
    images, *sides, channels = shape
    if not isinstance(images, int):  # any number, of a program that is exported
        return False
    result = _for_maps(images, window.sides(sides, kernel), kernel[3])
    return max(result, _for_maps(images, sides, channels)) > 1


def _for_maps(images: int, sides: Sequence[int], channels: int) -> int:
    """Parts for a result of so many channels; of few, a single one keeps only one core busy."""
    few = 32 < channels <= 64 and images * sides[0] * sides[1] > 4096
    return max(4 if few and images % 4 == 0 else 1, _of_a_fit(images))


def _of_a_fit(images: int) -> int:
    """Parts whose images fit the caches."""
    wanted = min(_MOST, images // _FIT)
    return next((n for n in range(wanted, 1, -1) if images % n == 0), 1)


def _split(x: jax.Array, parts: int) -> list[jax.Array]:
    """Every n-th image, so that none leaves its device."""
    rows = x.reshape(-1, parts, *x.shape[1:])
    return [rows[:, number] for number in range(parts)]


def _joined(parts: Sequence[jax.Array]) -> jax.Array:
    y = jnp.stack(parts, 1)
    return y.reshape(-1, *y.shape[2:])


def _convolve(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    count = _for_maps(len(x), window.sides(x.shape[1:3], kernel.shape), kernel.shape[3])
    return _joined([_convolve(part, kernel, window) for part in _split(x, count)])


def _of_x(
    dy: jax.Array, kernel: jax.Array, *, window: Window, x_shape: Sequence[int], **_: Any
) -> jax.Array:
    count = _for_maps(x_shape[0], x_shape[1:3], x_shape[3])
    shape = (x_shape[0] // count, *x_shape[1:])

    def of_part(part: jax.Array) -> jax.Array:
        x = jax.ShapeDtypeStruct(shape, dy.dtype)
        return jax.linear_transpose(lambda x: _convolve(x, kernel, window), x)(part)[0]

    return _joined([of_part(part) for part in _split(dy, count)])


def _of_kernel(
    x: jax.Array, dy: jax.Array, *, window: Window, kernel_shape: Sequence[int], **_: Any
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct(kernel_shape, x.dtype)

    def of_part(x: jax.Array, dy: jax.Array) -> jax.Array:
        found = jax.linear_transpose(lambda kernel: _convolve(x, kernel, window), kernel)(dy)[0]
        return found.astype(wide(x.dtype))

    count = _of_a_fit(len(x))
    pairs = zip(_split(x, count), _split(dy, count), strict=True)
    return sum(of_part(*pair) for pair in pairs).astype(x.dtype)


by_parts = bilinear("convolution_by_parts", _forward, _of_x, _of_kernel)

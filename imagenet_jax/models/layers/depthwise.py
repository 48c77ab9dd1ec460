"""Depthwise convolutions as sums of shifted maps, for CPUs.

XLA's CPU compiler makes a loop of them that is 30 times slower, and computes the gradient of the
kernel as if every channel met every other.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.bilinear import bilinear
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.interleaving import interleaved
from imagenet_jax.models.layers.window import Window, spans


def _forward(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    """[B, H', W', C] of x [B, H, W, C] and kernel [K, L, 1, C]."""
    kernel = kernel.astype(wide(x.dtype))
    parts = _shifted(x, kernel.shape, window)
    return sum(part * kernel[at][None, None] for at, part in parts).astype(x.dtype)


def _of_kernel(
    x: jax.Array, dy: jax.Array, *, window: Window, kernel_shape: Sequence[int], **_: Any
) -> jax.Array:
    """Gradient of the kernel: all sums over the pixels of an image in one loop over them."""
    dy = jax.lax.optimization_barrier(dy.astype(wide(dy.dtype)))
    terms = tuple(part * dy for _, part in _shifted(x, kernel_shape, window))
    zeros = (jnp.zeros((), dy.dtype),) * len(terms)
    totals = jax.lax.reduce(terms, zeros, partial(jax.tree.map, jnp.add), (1, 2))
    return jnp.stack(totals).sum(1).reshape(kernel_shape).astype(x.dtype)


def _of_x(
    dy: jax.Array, kernel: jax.Array, *, window: Window, x_shape: Sequence[int], **_: Any
) -> jax.Array:
    """Gradient of x, apart for the rows and columns that leave each remainder by the stride.

    Row h of x has met row (h + pad - i * dilation) / stride of y through row i of the kernel,
    where that is a whole number.
    """
    strides, pads, dilation = window
    first = [low // stride for (low, _), stride in zip(pads, strides, strict=True)]
    sides = [
        (side - 1 + low) // stride - begin + 1
        for side, (low, _), stride, begin in zip(x_shape[1:3], pads, strides, first, strict=True)
    ]
    edges = [
        (max(0, (span - 1) // stride - begin), max(0, begin + side - rows), 0)
        for span, stride, begin, side, rows in zip(
            spans(kernel.shape, dilation), strides, first, sides, dy.shape[1:3], strict=True
        )
    ]
    kernel = kernel.astype(wide(dy.dtype))
    padded = _padded(dy, edges)
    origin = [begin + edge[0] for begin, edge in zip(first, edges, strict=True)]

    def of_phase(row: int, column: int) -> jax.Array:
        total = jnp.zeros((dy.shape[0], *sides, dy.shape[3]), kernel.dtype)
        for (i, j), (down, right) in _offsets(kernel.shape, dilation):
            if down % strides[0] == row and right % strides[1] == column:
                top, left = origin[0] - down // strides[0], origin[1] - right // strides[1]
                part = padded[:, top : top + sides[0], left : left + sides[1]]
                total += part * kernel[i, j][None, None]
        return total.astype(dy.dtype)

    whole = interleaved(of_phase, strides)
    top, left = (
        low - begin * stride for (low, _), begin, stride in zip(pads, first, strides, strict=True)
    )
    return whole[:, top : top + x_shape[1], left : left + x_shape[2]]


def _shifted(
    x: jax.Array, kernel: Sequence[int], window: Window
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """((i, j), the pixels [B, H', W', C] of x that this place of the kernel sees), row by row."""
    rows, columns = window.sides(x.shape[1:3], kernel)
    x = _padded(x, [(*pad, 0) for pad in window.pads])
    down, right = window.strides
    for at, (top, left) in _offsets(kernel, window.dilation):
        ends = top + (rows - 1) * down + 1, left + (columns - 1) * right + 1
        yield at, x[:, top : ends[0] : down, left : ends[1] : right]


def _offsets(
    kernel: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """((i, j), rows and columns that it is apart from the first) of a kernel [K, L, ...]."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield (i, j), (i * dilation[0], j * dilation[1])


def _padded(x: jax.Array, edges: Sequence[tuple[int, int, int]]) -> jax.Array:
    """x with zeros around, stored: else what it is computed from would be, for each shift."""
    zero = x.dtype.type(0)
    return jax.lax.optimization_barrier(jax.lax.pad(x, zero, [(0, 0, 0), *edges, (0, 0, 0)]))


depthwise = bilinear("depthwise_convolution", _forward, _of_x, _of_kernel)

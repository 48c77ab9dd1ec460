"""Max-pooling, on CPUs and GPUs with a gradient that is gathered, not scattered."""

import math
from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.interleaving import interleaved
from imagenet_jax.models.layers.platforms import CPU, GPU, PLAIN, choose, lowering_for, stored

Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool(
    x: jax.Array, window: int, stride: int, padding: int = 0, *, ceil: bool = False
) -> jax.Array:
    """torch's MaxPool2d of x [B, H, W, C]; `ceil` keeps windows that reach over the end."""
    pads = tuple(_pads(side, window, stride, padding, ceil) for side in x.shape[1:3])

    def plain(x: jax.Array) -> jax.Array:
        how = {"window_shape": (window, window), "strides": (stride, stride)}
        if lowering_for.value == PLAIN:
            # Exporters to ONNX leave out pads, and integers have no -inf. A pixel of the edge again
            # changes no maximum, as it is in each window that reaches beyond it.
            for axis, ((before, after), side) in enumerate(zip(pads, x.shape[1:3], strict=True), 1):
                if before or after:
                    rows = np.arange(-before, side + after).clip(0, side - 1)
                    x = jnp.take(x, rows, axis=axis)
            return nn.max_pool(x, **how, padding="VALID")
        return nn.max_pool(x, **how, padding=pads)

    return choose(CPU + GPU, partial(gathered, window=window, stride=stride, pads=pads), plain, x)


def _pads(side: int, window: int, stride: int, padding: int, ceil: bool) -> tuple[int, int]:
    if not ceil:
        return padding, padding
    count = math.ceil((side + 2 * padding - window) / stride) + 1
    if (count - 1) * stride >= side + padding:  # a window must begin within the image
        count -= 1
    return padding, max(0, (count - 1) * stride + window - side - padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gathered(x: jax.Array, window: int, stride: int, pads: Pads) -> jax.Array:
    """nn.max_pool of x [B, H, W, C], which keeps where in its window each maximum was.

    Of equal values the first counts, as in XLA and torch. The gradient of a pixel is a sum over
    the windows that it is in, which takes one pass over memory; XLA's own looks for the maxima
    again, and then adds to each pixel in turn.
    """
    return _forward(x, window, stride, pads)[0]


def _forward(
    x: jax.Array, window: int, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    low = jnp.array(-jnp.inf, x.dtype)
    padded = jax.lax.pad(x, low, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
    rows, columns = ((side - window) // stride + 1 for side in padded.shape[1:3])
    best = place = None
    for number, (row, column) in enumerate(_offsets(window)):
        ends = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
        here = padded[:, row : ends[0] : stride, column : ends[1] : stride]
        if best is None:
            best, place = here, jnp.zeros(here.shape, jnp.uint8)
            continue
        better = (here > best) | jnp.isnan(here)
        best = jnp.where(better, here, best)
        place = jnp.where(better, jnp.uint8(number), place)
    return best, (place, x.shape)


def _offsets(window: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of a window, in the order of memory."""
    return ((row, column) for row in range(window) for column in range(window))


def _backward(
    window: int,
    stride: int,
    pads: Pads,
    kept: tuple[jax.Array, tuple[int, ...]],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    place, shape = kept
    parts = [
        jnp.where(place == number, gradient, 0).astype(wide(gradient.dtype))
        for number in range(window**2)
    ]
    sides = [-(-(side + sum(pad)) // stride) for side, pad in zip(shape[1:3], pads, strict=True)]

    def of_phase(row: int, column: int) -> jax.Array:
        """Of the pixels whose row and column leave these remainders by the stride."""
        total = jnp.zeros((shape[0], *sides, shape[3]), parts[0].dtype)
        for part, offsets in zip(parts, _offsets(window), strict=True):
            if (offsets[0] - row) % stride == 0 == (offsets[1] - column) % stride:
                shifts = [offset // stride for offset in offsets]
                edges = [
                    (shift, side - size - shift, 0)
                    for shift, side, size in zip(shifts, sides, part.shape[1:3], strict=True)
                ]
                total += jax.lax.pad(part, total.dtype.type(0), [(0, 0, 0), *edges, (0, 0, 0)])
        return total.astype(gradient.dtype)

    whole = interleaved(of_phase, (stride, stride))
    (top, _), (left, _) = pads
    return (stored(CPU, whole[:, top : top + shape[1], left : left + shape[2]]),)


gathered.defvjp(_forward, _backward)

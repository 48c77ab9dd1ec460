"""Convolutions, on a CPU in forms that XLA compiles to fast code there.

XLA's CPU compiler is good at products of matrices and at convolutions whose maps are larger than
the kernel. A kernel of one pixel is a product, and so is each pixel of a small map; a depthwise
kernel is a sum of shifted maps; small groups are joined and convolved one by one; and large batches
are convolved in parts.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.layers.by_parts import by_parts, gains
from imagenet_jax.models.layers.depthwise import depthwise
from imagenet_jax.models.layers.matmul import matmul
from imagenet_jax.models.layers.platforms import CPU, choose
from imagenet_jax.models.layers.window import Pads, Window, spans

Form = Callable[[jax.Array, jax.Array], jax.Array]


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Pads,
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """jax.lax.conv_general_dilated of x [B, H, W, C] by kernel [K, L, C / groups, D].

    Args:
      x, kernel: of one dtype.
      strides: of rows and columns.
      padding: "SAME", "VALID" or (before, after) for rows and columns.
      feature_group_count: groups of channels.
      options: of conv_general_dilated, as Flax gives them.
    """
    plain = partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        feature_group_count=feature_group_count,
        **options,
    )
    own = any(options.get(name) is not None for name in ("precision", "preferred_element_type"))
    if own or max(options.get("lhs_dilation") or (1,)) > 1:
        return plain(x, kernel)
    dilation = tuple(options.get("rhs_dilation") or (1, 1))
    if isinstance(padding, str):
        span = spans(kernel.shape, dilation)
        padding = jax.lax.padtype_to_pads(x.shape[1:3], span, strides, padding)
    window = Window(tuple(strides), tuple(tuple(pad) for pad in padding), dilation)
    form = _cpu_form(x.shape, kernel.shape, window, feature_group_count)
    return choose(CPU, form, plain, x, kernel) if form else plain(x, kernel)


def _cpu_form(
    shape: Sequence[int], kernel: Sequence[int], window: Window, groups: int
) -> Form | None:
    """What computes the result on a CPU; None: XLA's convolution."""
    size, sides = kernel[:2], window.sides(shape[1:3], kernel)
    if min(sides) < 1:  # no pixel left
        return None
    if groups == 1:
        if tuple(size) == (1, 1) and not np.any(window.pads):
            return partial(_pointwise, strides=window.strides)
        small = any(np.less([*sides, *shape[1:3]], [*size, *size]))
        if np.prod(sides) <= 16 and small and window.dilation == (1, 1):
            return partial(_by_pixel, window=window)
        return partial(by_parts, window=window) if gains(shape, kernel, window) else None
    if groups == shape[3] == kernel[3]:
        return partial(depthwise, window=window)
    return partial(_by_group, window=window, groups=groups)


def _pointwise(x: jax.Array, kernel: jax.Array, *, strides: tuple[int, int]) -> jax.Array:
    return matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])


def _by_pixel(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    """Each pixel of the result as a product of what its window sees of x, less the padding."""

    def seen(axis: int) -> list[tuple[slice, slice]]:
        """Of x and of the kernel, for each row or column of the result."""
        side, size = x.shape[axis + 1], kernel.shape[axis]
        (before, after), stride = window.pads[axis], window.strides[axis]
        found = []
        for start in range(-before, side + after - size + 1, stride):
            low, high = max(0, start), max(0, min(side, start + size))
            found.append((slice(low, high), slice(low - start, high - start)))
        return found

    rows = [
        jnp.stack(
            [
                x[:, of_x[0], of_x[1]].reshape(x.shape[0], -1)
                @ kernel[of_kernel[0], of_kernel[1]].reshape(-1, kernel.shape[3])
                for of_x, of_kernel in (zip(row, column, strict=True) for column in seen(1))
            ],
            1,
        )
        for row in seen(0)
    ]
    return jnp.stack(rows, 1)


def _by_group(x: jax.Array, kernel: jax.Array, *, window: Window, groups: int) -> jax.Array:
    """One convolution after the other, each of as many groups as are best done at once.

    More groups cost more products with zeros, fewer of them more convolutions.
    """
    inner, count = kernel.shape[2], groups
    most = max(inner, 16 if x.shape[1] * x.shape[2] > 90**2 else 64)
    joined = max(n for n in range(1, count + 1) if count % n == 0 and n * inner <= most)
    parts, outer = count // joined, kernel.shape[3] // count
    # A block of the diagonal for each group: zero where one group's channels meet another's.
    blocks = kernel.reshape(*kernel.shape[:2], inner, parts, joined, outer)
    diagonal = jnp.einsum("klcpgd,gh->klhcpgd", blocks, jnp.eye(joined, dtype=kernel.dtype))
    diagonal = diagonal.reshape(*kernel.shape[:2], joined * inner, parts, joined * outer)
    pieces = zip(jnp.split(x, parts, -1), jnp.moveaxis(diagonal, 3, 0), strict=True)
    return jnp.concatenate([_convolve(*piece, window) for piece in pieces], -1)


def _convolve(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.pads,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

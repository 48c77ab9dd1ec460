"""RoIAlign (He et al. 2017, https://arxiv.org/abs/1703.06870) of a pyramid, in two forms.

Each box is cut out of the map that its size asks for, as features of size x size places. The values
are torchvision's with sampling_ratio = 2 and aligned = False.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_SAMPLES = 2  # a place, along each axis
_CANONICAL = 224.0, 4  # a box of so many pixels belongs to the map of stride 2 ** 4
_FEW = 4096  # places of a pyramid below which matrix products are the faster form


def roi_align(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    strides: Sequence[int],
    size: int,
    form: str = "",
) -> jax.Array:
    """Features [B, R, size, size, C] of boxes in pixels of the input [B, R, 4].

    Args:
      maps: of the pyramid, [B, h, w, C], from fine to coarse.
      boxes: any; of no area: of a place.
      strides: of the maps.
      size: places along an axis.
      form: "gather" reads the four neighbours of each sample; "einsum" multiplies each map by the
        weights of all of its rows and columns, which is more arithmetic, and has no scatter in the
        backward pass. "": einsum for small maps.
    """
    boxes = jax.lax.stop_gradient(boxes)
    places = sum(x.shape[1] * x.shape[2] for x in maps)
    form = form or ("einsum" if places <= _FEW else "gather")
    level = level_of(boxes, strides)
    return (_by_products if form == "einsum" else _by_gather)(maps, boxes, level, strides, size)


def level_of(boxes: jax.Array, strides: Sequence[int]) -> jax.Array:
    """The number of the map of each box [...], as in FPN (Lin et al. 2017, equation 1)."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    root = jnp.sqrt(sides[..., 0] * sides[..., 1])
    pixels, exponent = _CANONICAL
    first, last = (int(np.log2(stride)) for stride in (strides[0], strides[-1]))
    # Of no area: the first map.
    at = jnp.floor(exponent + jnp.log2(jnp.maximum(root, 1e-3) / pixels) + 1e-6)
    return (jnp.clip(at, first, last) - first).astype(jnp.int32)


def _samples(low: jax.Array, high: jax.Array, size: int) -> jax.Array:
    """Where samples are along an axis, [..., size * _SAMPLES], in places of the map."""
    step = jnp.maximum(high - low, 1.0) / size
    offsets = (jnp.arange(size * _SAMPLES, dtype=low.dtype) + 0.5) / _SAMPLES
    offsets = jax.lax.broadcast_to_rank(offsets, low.ndim + 1)
    return low[..., None] + offsets * step[..., None]


def _neighbours(at: jax.Array, side: jax.Array) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """The two neighbours of each sample and their weights; 0 for samples beyond the map.

    Args:
      at: where samples are, float.
      side: rows or columns of the map, int, broadcasts against `at`.
    """
    last = (side - 1).astype(at.dtype)
    inside = (at >= -1) & (at <= last + 1)
    at = jnp.clip(at, 0, last)
    low = jnp.floor(at)
    share = at - low
    high = jnp.minimum(low + 1, last)
    weights = jnp.where(inside, 1 - share, 0), jnp.where(inside, share, 0)
    return (low.astype(jnp.int32), weights[0]), (high.astype(jnp.int32), weights[1])


def _by_gather(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    strides: Sequence[int],
    size: int,
) -> jax.Array:
    rows, columns = (np.array([x.shape[axis] for x in maps]) for axis in (1, 2))
    starts = np.cumsum([0, *(rows * columns)[:-1]])
    table = jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps], 1)
    of_level = [jnp.asarray(values)[level][..., None] for values in (rows, columns, starts)]
    height, width, start = of_level
    scaled = boxes / jnp.asarray(strides, boxes.dtype)[level][..., None]
    left, top, right, bottom = jnp.moveaxis(scaled, -1, 0)
    down = _neighbours(_samples(top, bottom, size), height)
    across = _neighbours(_samples(left, right, size), width)
    total = jnp.zeros((*boxes.shape[:2], size, size, table.shape[-1]), table.dtype)
    for row, row_weight in down:
        for column, column_weight in across:
            place = (start + row * width)[..., None] + column[..., None, :]  # [B, R, n, n]
            weight = row_weight[..., None] * column_weight[..., None, :]
            found = jax.vmap(lambda values, at: values[at])(table, place)
            found = found * weight[..., None].astype(table.dtype)
            shape = (*boxes.shape[:2], size, _SAMPLES, size, _SAMPLES, -1)
            total += found.reshape(shape).sum((3, 5))
    return total / _SAMPLES**2


def _by_products(
    maps: Sequence[jax.Array],
    boxes: jax.Array,
    level: jax.Array,
    strides: Sequence[int],
    size: int,
) -> jax.Array:
    total = 0.0
    for number, (x, stride) in enumerate(zip(maps, strides, strict=True)):
        left, top, right, bottom = jnp.moveaxis(boxes / stride, -1, 0)
        down = _weights(_samples(top, bottom, size), x.shape[1], size)
        across = _weights(_samples(left, right, size), x.shape[2], size)
        down = jnp.where((level == number)[..., None, None], down, 0)
        down, across = down.astype(x.dtype), across.astype(x.dtype)
        cut = jnp.einsum("brph,bhwc->brpwc", down, x)
        total = total + jnp.einsum("brqw,brpwc->brpqc", across, cut)
    return total


def _weights(at: jax.Array, side: int, size: int) -> jax.Array:
    """What each row or column of a map counts in each place of a box, [B, R, size, side]."""
    numbers = jnp.arange(side)[None, None, None]
    whole = sum(
        jnp.where(number[..., None] == numbers, weight[..., None], 0)
        for number, weight in _neighbours(at, jnp.array(side))
    )
    return whole.reshape(*at.shape[:2], size, _SAMPLES, side).mean(3)

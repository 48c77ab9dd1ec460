"""Sums over the pixels of [G, N, ..., C], in float32 at least, as suits the device.

XLA splits a long sum on a GPU into two stages itself, but then the second stage is a kernel for
each sum. Here the parts of the first are chosen so that XLA leaves them as they are, and the
second stage is one kernel for all sums that belong together.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.platforms import GPU, TPU, choose

Arrays = tuple[jax.Array, ...]


def sums(x: jax.Array) -> jax.Array:
    """[G, C]: over all axes of x [G, N, ..., C] but the first and the last."""
    return x.sum(tuple(range(1, x.ndim - 1)), dtype=wide(x.dtype))


def sums_by_product(x: jax.Array) -> jax.Array:
    """The same by the matrix unit of a TPU, which has less to do than its vector unit."""
    ones = jnp.ones((*x.shape[:-1], 8), x.dtype)
    return jnp.einsum("g...c,g...d->gcd", x, ones, preferred_element_type=wide(x.dtype))[..., 0]


def cheap_sums(x: jax.Array) -> jax.Array:
    """The same, whichever is cheaper where x has to be read for it alone."""
    return choose(TPU, sums_by_product, sums, x)


def partial_sums(x: jax.Array) -> jax.Array:
    """[G, K, C]: sums of K parts of the pixels of x, the first of two stages."""
    groups, images, channels = len(x), x.shape[1], x.shape[-1]
    parts = x.reshape(groups, images, *_stages(x.shape), channels)
    return parts.sum(3, dtype=wide(x.dtype)).reshape(groups, -1, channels)


def joint_sums(*parts: jax.Array) -> Arrays:
    """[G, C] of each [G, K, C], whose K may differ, by one kernel of a GPU."""
    rows = max(part.shape[1] for part in parts)
    even = tuple(jnp.pad(part, ((0, 0), (0, rows - part.shape[1]), (0, 0))) for part in parts)
    zeros = (jnp.zeros((), even[0].dtype),) * len(even)
    return tuple(jax.lax.reduce(even, zeros, partial(jax.tree.map, jnp.add), (1,)))


def sums_with(x: jax.Array, *parts: jax.Array, local: bool) -> Arrays:
    """[G, C]: the sums of x, and those of each [G, K, C] over its K.

    `local` says whether a device holds all pixels of a group, so that they can be summed jointly.
    """

    def joint(x: jax.Array, *parts: jax.Array) -> Arrays:
        return joint_sums(partial_sums(x), *parts)

    def apart(x: jax.Array, *parts: jax.Array) -> Arrays:
        return sums(x), *(part.sum(1) for part in parts)

    return choose(GPU if local else (), joint, apart, x, *parts)


def _stages(shape: tuple[int, ...]) -> tuple[int, int]:
    """Parts of an image of [G, N, ..., C] and pixels of a part, no more than parts of a group."""
    images, pixels = shape[1], math.prod(shape[2:-1])
    fitting = (n for n in range(1, pixels + 1) if pixels % n == 0 and pixels <= images * n * n)
    parts = next(fitting, 1)
    return parts, pixels // parts


@jax.custom_jvp
def sums_and_squares(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of x and of its squares, [G, C] each."""

    def joint(*arrays: jax.Array) -> Arrays:
        return joint_sums(*map(partial_sums, arrays))

    return choose(GPU, joint, lambda *arrays: tuple(map(sums, arrays)), x, jnp.square(x))


@sums_and_squares.defjvp
def _sums_and_squares_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    return sums_and_squares(x), (sums(tangent), sums(2 * x * tangent))


@jax.custom_jvp
def scale_and_shift(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """x [G, N, ..., C] * scale + shift, of [G, C] each, whose gradients are two such sums."""
    scale, shift = _broadcast(scale, shift, shape=x.shape)
    return x * scale + shift


@scale_and_shift.defjvp
def _scale_and_shift_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, scale, _ = primals
    of_x, *of_vectors = tangents
    ways = (partial(way, shape=x.shape) for way in (_broadcast_in_stages, _broadcast))
    of_scale, of_shift = choose(GPU, *ways, *of_vectors)
    (scale,) = _broadcast(scale, shape=x.shape)
    return scale_and_shift(*primals), of_x * scale + x * of_scale + of_shift


def _broadcast(*vectors: jax.Array, shape: tuple[int, ...]) -> Arrays:
    """Each [G, C] over the pixels of [G, N, ..., C]."""
    aligned = (shape[0], *[1] * (len(shape) - 2), shape[-1])
    return tuple(jnp.broadcast_to(vector.reshape(aligned), shape) for vector in vectors)


def _broadcast_in_stages(*vectors: jax.Array, shape: tuple[int, ...]) -> Arrays:
    """The same, of which the transpose is a sum in two stages, the second for all at once."""
    groups, images, channels = shape[0], shape[1], shape[-1]
    parts, pixels = _stages(shape)
    joint = jnp.stack(vectors, 1)[:, None]
    joint = jnp.broadcast_to(joint, (groups, images * parts, len(vectors), channels))
    full = (groups, images * parts, pixels, channels)
    return tuple(
        jnp.broadcast_to(joint[:, :, None, place], full).reshape(shape)
        for place in range(len(vectors))
    )

"""Sums over the pixels of [G, N, ..., C], in float32 at least, as suits the device."""

import jax
import jax.numpy as jnp

from imagenet_jax.models.dtypes import wide
from imagenet_jax.models.platforms import GPU, TPU, choose


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


@jax.custom_jvp
def sums_and_squares(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of x and of its squares, [G, C] each."""
    return choose(GPU, staged_sums, lambda *arrays: tuple(map(sums, arrays)), x, jnp.square(x))


def staged_sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of x and of y, those of the images of a group in one kernel of a GPU for both.

    XLA splits a long sum into two stages itself, but then the second stage is a kernel for each.
    """
    images = tuple(array.sum(range(2, array.ndim - 1), dtype=wide(array.dtype)) for array in (x, y))
    zero = jnp.zeros((), images[0].dtype)

    def both(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> tuple:
        return a[0] + b[0], a[1] + b[1]

    return tuple(jax.lax.reduce(images, (zero, zero), both, (1,)))


@sums_and_squares.defjvp
def _sums_and_squares_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    return sums_and_squares(x), (sums(tangent), sums(2 * x * tangent))

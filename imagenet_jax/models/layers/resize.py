"""Maps of another size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide


def bilinear_resize(x: jax.Array, sides: Sequence[int]) -> jax.Array:
    """x [B, H, W, C] with sides (h, w), in float32 at least.

    torch's interpolate(mode="bilinear", align_corners=False), also where it shrinks.
    """
    x = x.astype(wide(x.dtype))
    if tuple(sides) == x.shape[1:3]:
        return x
    shape = (x.shape[0], *sides, x.shape[3])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def nearest_double(x: jax.Array, sides: Sequence[int]) -> jax.Array:
    """x [B, H, W, C] with each pixel twice in each direction, cut to (h, w)."""
    x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    return x[:, : sides[0], : sides[1]]

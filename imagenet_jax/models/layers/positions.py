"""Learnt position embeddings for an image of another size than they were learnt for."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def resampled(places: jax.Array, grid: Sequence[int], first: int) -> jax.Array:
    """Position embeddings [1, first + h * w, C] for a grid [h, w] of patches, bicubic.

    As DINO has it for small crops (facebookresearch/dino, interpolate_pos_encoding); its filter is
    a little sharper (torch's a is -0.75, JAX's -0.5).

    Args:
      places: those of a square of patches, [1, first + s * s, C].
      grid: h and w.
      first: how many stand for no place, and are kept.
    """
    kept, square = places[:, :first], places[:, first:]
    side, width = round(square.shape[1] ** 0.5), places.shape[2]
    square = square.reshape(1, side, side, width)
    square = jax.image.resize(square, (1, *grid, width), "bicubic", antialias=False)
    return jnp.concatenate([kept, square.reshape(1, -1, width)], 1)

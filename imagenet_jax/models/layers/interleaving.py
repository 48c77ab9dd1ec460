"""Maps put together from those of each remainder of row and column by a stride."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp


def interleaved(of_phase: Callable[[int, int], jax.Array], strides: Sequence[int]) -> jax.Array:
    """[B, H, W, C] whose rows row::strides[0] and columns column::strides[1] are
    of_phase(row, column), of one shape."""
    down, right = strides
    lines = [
        jnp.stack([of_phase(row, column) for column in range(right)], 3) for row in range(down)
    ]
    whole = jnp.stack(lines, 2)
    batch, rows, _, columns, _, channels = whole.shape
    return whole.reshape(batch, rows * down, columns * right, channels)

"""Initial values that several families share."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def torch_default(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """torch's kernels of convolutions and linear layers: uniform in +-1 / sqrt(inputs)."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)

"""Dtypes to compute in."""

from typing import Any

import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """float32, or float64 where that is the dtype of the computation (in tests)."""
    return jnp.promote_types(jnp.float32, dtype)

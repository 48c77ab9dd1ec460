"""GELU (Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415) that keeps x alone."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def gelu(x: jax.Array, approximate: bool) -> jax.Array:
    """jax.nn.gelu, whose slope is computed from x in the backward pass.

    In another form than in the forward pass: XLA would find what both need, tanh or erfc, and on
    a GPU write it to memory instead of computing it twice.
    """
    return jax.nn.gelu(x, approximate)


@gelu.defjvp
def _gelu_jvp(approximate: bool, primals: tuple, tangents: tuple) -> tuple:
    (x,), (tangent,) = primals, tangents
    at = x.astype(wide(x.dtype))
    if approximate:
        factor = math.sqrt(8 / math.pi)
        share = jax.nn.sigmoid(factor * (at + 0.044715 * at**3))
        density = factor * share * (1 - share) * (1 + 3 * 0.044715 * at**2)
    else:
        share = 0.5 * (1 + jax.lax.erf(at / math.sqrt(2)))
        density = jnp.exp(-0.5 * at**2) / math.sqrt(2 * math.pi)
    return gelu(x, approximate), ((share + at * density) * tangent).astype(x.dtype)

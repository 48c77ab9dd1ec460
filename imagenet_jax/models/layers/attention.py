"""Self-attention in few passes over the weights of all pairs of tokens, or in none."""

from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide


def has_flash_attention(dtype: Any, size: int) -> bool:
    """Whether cuDNN has its fused attention for the devices of this process.

    Args:
      dtype: of queries, keys and values.
      size: of a head.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    fits = jnp.dtype(dtype).itemsize == 2 and size % 8 == 0 and size <= 128
    return fits and float(device.compute_capability) >= 8


@jax.custom_vjp
def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v of every head (Vaswani et al. 2017).

    In training the logits [B, H, T, T] are written once, and their gradients once; weights are
    computed anew from them wherever a product reads them, which costs less than another pass
    over memory. The sums under the softmax are a product with ones, for the matrix unit; and
    the gradient's row sums come from the result (Dao et al. 2022,
    https://arxiv.org/abs/2205.14135). docs/step-study.md has what each of these brought.

    Args:
      q, k, v: [B, H, D, T], tokens last as the products read them, of one floating dtype.

    Returns:
      [B, H, D, T] of that dtype. Logits have it too; exponentials and sums float32 at least.
    """
    logits = jnp.einsum("bhdk,bhdq->bhkq", k, q * q.shape[2] ** -0.5)
    weights = jax.nn.softmax(logits.astype(wide(v.dtype)), axis=2).astype(v.dtype)
    return jnp.einsum("bhdk,bhkq->bhdq", v, weights)


def _forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
    dtype, width = v.dtype, wide(v.dtype)
    q = q * q.shape[2] ** -0.5
    logits = jnp.einsum("bhdk,bhdq->bhkq", k, q)
    top = logits.max(2, keepdims=True).astype(width)
    terms = jnp.exp(logits.astype(width) - top).astype(dtype)
    ones = jnp.ones_like(v[:, :, :1])
    total = jnp.einsum("bhdk,bhkq->bhdq", ones, terms, preferred_element_type=width)
    # Kept apart: as one product with v, the division would be a pass of its own.
    total = jax.lax.optimization_barrier(total)
    y = jnp.einsum("bhdk,bhkq->bhdq", v, terms, preferred_element_type=width)
    y = (y / total).astype(dtype)
    return y, (q, k, v, logits, top + jnp.log(total), y)


def _backward(kept: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, logits, log_total, y = kept
    dtype, width = v.dtype, wide(v.dtype)
    weights = jnp.exp(logits.astype(width) - log_total)
    dv = jnp.einsum("bhkq,bhdq->bhdk", weights.astype(dtype), dy)
    dweights = jnp.einsum("bhdk,bhdq->bhkq", v, dy, preferred_element_type=width)
    mean = (dy.astype(width) * y.astype(width)).sum(2, keepdims=True)
    dlogits = (weights * (dweights - mean)).astype(dtype)
    dq = jnp.einsum("bhdk,bhkq->bhdq", k, dlogits) * k.shape[2] ** -0.5
    dk = jnp.einsum("bhkq,bhdq->bhdk", dlogits, q)
    return dq, dk, dv


attention.defvjp(_forward, _backward)

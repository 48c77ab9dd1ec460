"""The attention of the transformers against JAX's own, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.attention import attention


def theirs(q, k, v):
    tokens_first = (jnp.moveaxis(x, 3, 1) for x in (q, k, v))  # [B, T, H, D]
    return jnp.moveaxis(jax.nn.dot_product_attention(*tokens_first), 1, 3)


def inputs(size, dtype, tokens=197):
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weight = (jax.random.normal(key, (2, 3, 64, tokens), dtype) for key in keys)
    return (size * q, size * k, v), weight


def both(arrays, weight):
    """Output and gradients of each."""
    return [
        (*jax.jit(jax.value_and_grad(lambda a, f=f: (f(*a) * weight).sum()))(arrays), f(*arrays))
        for f in (attention, theirs)
    ]


# Logits of about 8, and of 1,200: there, float32 itself is off by 1e-4.
@pytest.mark.parametrize(("size", "tolerance"), [(1.0, 2e-5), (12.0, 1e-3)])
def test_values_and_gradients(size, tolerance):
    ours, reference = both(*inputs(size, jnp.float32))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=tolerance * np.abs(other).max())


def test_half_precision_is_as_near_as_jaxs():
    arrays, weight = inputs(1.0, jnp.float32)
    exact = jax.tree.leaves(both(arrays, weight)[1])
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (arrays, weight))
    errors = [
        [np.linalg.norm(x.astype(jnp.float32) - e) for x, e in zip(side, exact, strict=True)]
        for side in map(jax.tree.leaves, both(*low))
    ]
    for ours, reference in zip(*errors, strict=True):
        assert ours <= 1.25 * reference + 1


def test_one_token_gets_its_own_value():
    (q, k, v), _ = inputs(1.0, jnp.float32, tokens=1)
    np.testing.assert_array_equal(attention(q, k, v), v)

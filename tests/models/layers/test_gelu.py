import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from imagenet_jax.models.layers.gelu import gelu

X = np.concatenate([np.linspace(-8, 8, 401), [-60, -1e-30, 0, 1e-30, 60, 300]])


def slopes(function, x, approximate):
    return jax.grad(lambda x: function(x, approximate).astype(jnp.float32).sum())(x)


def exact_slopes(x, approximate):
    """In float64."""
    if not approximate:
        return norm.cdf(x) + x * norm.pdf(x)
    inner, slope = x + 0.044715 * x**3, 1 + 3 * 0.044715 * x**2
    tanh = np.tanh(np.sqrt(2 / np.pi) * inner)
    return (1 + tanh + x * (1 - tanh**2) * np.sqrt(2 / np.pi) * slope) / 2


@pytest.mark.parametrize("approximate", [False, True])
def test_values_are_jaxs_and_slopes_exact(approximate):
    x, tangent = jnp.asarray(X, jnp.float32), jnp.linspace(-1, 1, len(X))
    np.testing.assert_array_equal(gelu(x, approximate), jax.nn.gelu(x, approximate))
    expected = exact_slopes(np.asarray(x, np.float64), approximate)
    np.testing.assert_allclose(slopes(gelu, x, approximate), expected, atol=3e-6)
    _, forward = jax.jvp(lambda x: gelu(x, approximate), (x,), (tangent,))
    np.testing.assert_allclose(forward, expected * tangent, atol=3e-6)


@pytest.mark.parametrize("approximate", [False, True])
def test_slopes_in_bfloat16_are_nearer_than_jaxs(approximate):
    x = jnp.asarray(X, jnp.bfloat16)
    exact = exact_slopes(np.asarray(x, np.float64), approximate)
    ours, theirs = (
        np.abs(np.asarray(slopes(function, x, approximate), np.float32) - exact).mean()
        for function in (gelu, jax.nn.gelu)
    )
    assert ours <= theirs


@pytest.mark.parametrize(
    ("approximate", "forward", "backward"), [(True, "tanh", "logistic"), (False, "erfc", "erf")]
)
def test_the_slope_shares_nothing_costly_with_the_value(approximate, forward, backward):
    """XLA would keep it in memory on a GPU."""
    x = jnp.ones((4, 5))
    slope = jax.make_jaxpr(jax.grad(lambda x: gelu(x, approximate).sum()))(x)
    costly = re.compile(r" (tanh|logistic|erfc?)\b")
    assert costly.findall(str(jax.make_jaxpr(lambda x: gelu(x, approximate))(x))) == [forward]
    assert sorted(costly.findall(str(slope))) == sorted([forward, backward])

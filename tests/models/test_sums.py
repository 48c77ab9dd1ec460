"""Each way to add up pixels gives the same sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.sums import staged_sums, sums, sums_and_squares, sums_by_product


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (1, 4, 6)])
def test_sums(shape):
    random = np.random.default_rng(0)
    x, y = (jnp.asarray(random.normal(size=shape), jnp.bfloat16) for _ in range(2))
    axes = tuple(range(1, len(shape) - 1))
    of_x, of_y = (np.asarray(array, np.float64).sum(axes) for array in (x, y))
    for ours in (sums(x), sums_by_product(x), staged_sums(x, y)[0]):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, of_x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(staged_sums(x, y)[1], of_y, rtol=1e-5, atol=1e-5)


def test_gradient_of_sums_and_squares():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), jnp.float32)
    of_sum, of_square = jnp.arange(10.0).reshape(2, 5), jnp.ones((2, 5))
    _, pullback = jax.vjp(sums_and_squares, x)
    (ours,) = pullback((of_sum, of_square))
    np.testing.assert_allclose(ours, of_sum[:, None, None] + 2 * x, rtol=1e-6)


def test_forward_mode():
    x, tangent = (jax.random.normal(jax.random.key(k), (2, 3, 4, 5)) for k in (0, 1))
    _, (of_sum, of_square) = jax.jvp(sums_and_squares, (x,), (tangent,))
    np.testing.assert_allclose(of_sum, tangent.sum((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_square, (2 * x * tangent).sum((1, 2)), rtol=1e-4, atol=1e-5)

"""Each way to add up pixels gives the same sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.sums import (
    joint_sums,
    partial_sums,
    scale_and_shift,
    sums,
    sums_and_squares,
    sums_by_product,
    sums_with,
)

SHAPES = [(2, 3, 4, 5, 6), (1, 4, 6), (1, 3, 16, 16, 2), (2, 1, 7, 11, 3)]


def normal(key, shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(key), shape).astype(dtype)


def exact(x):
    return np.asarray(x, np.float64).sum(tuple(range(1, x.ndim - 1)))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape):
    x, y = normal(0, shape, jnp.bfloat16), normal(1, shape, jnp.bfloat16)
    joint = joint_sums(partial_sums(x), partial_sums(y))
    for ours in (sums(x), sums_by_product(x), joint[0]):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, exact(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(joint[1], exact(y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "parts"), [((1, 256, 56, 56, 8), 1024), ((2, 8, 7, 7, 3), 56), ((3, 49, 5), 49)]
)
def test_first_stage_has_no_more_pixels_than_parts(shape, parts):
    x = jnp.ones(shape, jnp.bfloat16)
    found = partial_sums(x)
    assert found.shape == (shape[0], parts, shape[-1])
    assert found.max() <= parts


@pytest.mark.parametrize("local", [True, False])
def test_sums_with_parts_of_other_lengths(platform, local):
    x, parts = normal(0, (2, 3, 4, 4, 5)), [normal(1, (2, 7, 5)), normal(2, (2, 90, 5))]
    for ours, array in zip(sums_with(x, *parts, local=local), [x, *parts], strict=True):
        np.testing.assert_allclose(ours, exact(array), rtol=1e-5, atol=1e-5)


def test_gradient_of_sums_and_squares(platform):
    x = normal(0, (2, 3, 4, 5))
    of_sum, of_square = jnp.arange(10.0).reshape(2, 5), jnp.ones((2, 5))
    _, pullback = jax.vjp(sums_and_squares, x)
    (ours,) = pullback((of_sum, of_square))
    np.testing.assert_allclose(ours, of_sum[:, None, None] + 2 * x, rtol=1e-6)


def test_forward_mode(platform):
    x, tangent = normal(0, (2, 3, 4, 5)), normal(1, (2, 3, 4, 5))
    _, (of_sum, of_square) = jax.jvp(sums_and_squares, (x,), (tangent,))
    np.testing.assert_allclose(of_sum, tangent.sum((1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_square, (2 * x * tangent).sum((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_and_shift(platform, shape):
    """Value, gradient, derivative along a tangent, and the gradient of that."""
    x, scale, shift = normal(0, shape), *(normal(k, (shape[0], shape[-1])) for k in (1, 2))
    gradient = normal(3, shape)

    def plain(x, scale, shift):
        aligned = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
        return x * scale.reshape(aligned) + shift.reshape(aligned)

    def along(function):
        def derivative(x, scale, shift):
            tangents = (gradient, 2 * scale, shift)
            return jax.jvp(function, (x, scale, shift), tangents)[1]

        return derivative

    def value_and_gradients(function):
        value, pullback = jax.vjp(function, x, scale, shift)
        return value, pullback(gradient)

    functions = scale_and_shift, plain, along(scale_and_shift), along(plain)
    found = jax.jit(lambda: [value_and_gradients(function) for function in functions])()
    for (value, ours), (expected, oracles) in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
        for one, other in zip(ours, oracles, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

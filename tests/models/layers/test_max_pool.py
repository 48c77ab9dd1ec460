import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.max_pool import max_pool


def torch_max_pool(x, gradient, window, stride, padding, ceil):
    """Values, and the gradient of the sum of values times `gradient(shape)`."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    y = torch.nn.functional.max_pool2d(x, window, stride, padding, ceil_mode=ceil)
    weight = gradient(y.permute(0, 2, 3, 1).shape)
    y.backward(torch.tensor(weight.transpose(0, 3, 1, 2)))
    return [array.detach().numpy().transpose(0, 2, 3, 1) for array in (y, x.grad)]


def whole_numbers(shape, seed=1):
    """Few different ones: of equal maxima the first gets the gradient."""
    return np.random.default_rng(seed).integers(-3, 4, tuple(shape)).astype(np.float32)


@pytest.mark.parametrize("platform", ["cpu", "tpu"], indirect=True)
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize("ceil", [False, True])
def test_values_and_gradients_are_torchs(platform, window, stride, padding, ceil):
    x = whole_numbers((2, 13, 10, 3), seed=0)
    expected, slope = torch_max_pool(x, whole_numbers, window, stride, padding, ceil)

    @jax.jit
    def value_and_gradient(x, weight):
        y, pullback = jax.vjp(lambda x: max_pool(x, window, stride, padding, ceil=ceil), x)
        return y, pullback(weight)[0]

    y, gradient = value_and_gradient(x, whole_numbers(expected.shape))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(gradient, slope)


def test_a_value_that_is_not_a_number_is_seen(platform):
    x = jnp.zeros((1, 6, 6, 1)).at[0, 3, 2, 0].set(jnp.nan)
    seen = np.isnan(max_pool(x, 3, 2, 1))[0, :, :, 0]
    np.testing.assert_array_equal(seen, [[0, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_on_a_tpu_alone_gradients_are_scattered(platform):
    x = jnp.zeros((1, 8, 8, 4), jnp.bfloat16)
    gradient = jax.grad(lambda x: max_pool(x, 3, 2, 1).astype(jnp.float32).sum())
    text = jax.jit(gradient).lower(x).as_text()
    assert ("select_and_scatter" in text) == (platform == "tpu")

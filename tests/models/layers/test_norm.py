import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.norm import BatchNorm


def run(x, *, train=True, variables=None, **options):
    """Output and updated running statistics."""
    norm = BatchNorm(**options)
    variables = variables or norm.init(jax.random.key(0), x, train=False)
    out, updated = norm.apply(variables, x, train=train, mutable=["batch_stats"])
    return np.asarray(out), updated["batch_stats"]


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(3, 2, (8, 4, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("group_size", [0, 2, 4, 8])
def test_groups_are_normalised_by_their_own_statistics(images, group_size):
    out, stats = run(images, group_size=group_size, momentum=0.9)
    groups = images.reshape(-1, (group_size or 8) * 16, 5).astype(np.float64)
    mean, var = groups.mean(1, keepdims=True), groups.var(1, keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(images.shape)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    # torch: running = 0.9 * running + 0.1 * batch, with the unbiased variance.
    np.testing.assert_allclose(stats["mean"], 0.1 * mean.mean((0, 1)), rtol=1e-5)
    unbiased = groups.var(1, ddof=1).mean(0)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_evaluation_uses_and_keeps_the_running_statistics(images):
    mean, var = np.arange(5.0, dtype=np.float32), np.arange(1.0, 6.0, dtype=np.float32)
    scale, bias = np.full(5, 2.0, np.float32), np.full(5, -1.0, np.float32)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    out, stats = run(images, train=False, variables=variables)
    np.testing.assert_allclose(out, (images - mean) / np.sqrt(var + 1e-5) * 2 - 1, atol=1e-5)
    np.testing.assert_array_equal(stats["mean"], mean)


def test_statistics_of_bfloat16_are_taken_in_float32(images):
    large = jnp.asarray(images + 100, jnp.bfloat16)
    out, stats = run(large, dtype=jnp.bfloat16)
    assert out.dtype == jnp.bfloat16
    exact = np.asarray(large, np.float64).reshape(-1, 5)
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean(0), rtol=1e-5)


def test_images_that_do_not_divide_into_groups_are_refused(images):
    with pytest.raises(ValueError, match="8 images do not divide into groups of 3"):
        run(images, group_size=3)


@pytest.mark.parametrize("with_kernel", [False, True])
def test_more_values_than_an_int32_counts(with_kernel):
    """As `study --largest_batch` tries for described devices."""
    x = jax.ShapeDtypeStruct((200_000, 112, 112, 4), jnp.bfloat16)
    kernel = jnp.ones((4, 4)) if with_kernel else None
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 4)), False)

    def apply(x):
        _, updated = norm.apply(variables, x, True, kernel=kernel, mutable=["batch_stats"])
        return updated["batch_stats"]["mean"]

    assert jax.eval_shape(apply, x).shape == (4,)

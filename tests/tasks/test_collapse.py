import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.tasks.collapse import COLLAPSED, concern_of, feature_std


def test_it_is_one_on_the_sphere_and_zero_of_one_direction():
    rng = np.random.default_rng(0)
    features = np.float32(rng.normal(size=(4000, 64)) * rng.uniform(1, 9, (4000, 1)))
    assert feature_std(features) == pytest.approx(1, abs=0.02)
    assert feature_std(features[:1] * np.arange(1, 5, dtype=np.float32)[:, None]) < 1e-6
    shifted = features + 40
    direction = np.float64(shifted) / np.linalg.norm(np.float64(shifted), axis=1, keepdims=True)
    assert feature_std(shifted) == pytest.approx(direction.std(0).mean() * 8, rel=1e-4)
    assert feature_std(features[:0]) == 0


def test_padding_does_not_count_and_jax_gives_the_same():
    rng = np.random.default_rng(0)
    features = np.float32(rng.normal(1, 1, (24, 8)))
    features[3] = 0
    mask = np.arange(24) % 3 != 1
    padded = np.where(mask[:, None], features, np.nan).astype(np.float32)
    expected = feature_std(features[mask])
    assert feature_std(padded, mask) == pytest.approx(expected, rel=1e-5)
    on_device = jax.jit(feature_std)(jnp.asarray(padded), jnp.asarray(mask))
    assert float(on_device) == pytest.approx(float(expected), rel=1e-5)
    assert np.isnan(feature_std(padded))


def test_people_are_warned_below_the_limit_alone():
    assert "feature_std = 0.0123 is below 0.05" in concern_of(0.01234)
    assert not concern_of(COLLAPSED) and not concern_of(float("nan"))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax import augment


@pytest.fixture
def keys():
    epoch, index = jnp.zeros(64, jnp.int32), jnp.arange(64, dtype=jnp.int32)
    return augment.example_keys(jax.random.key(0), epoch, index)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), np.uint8)


def test_normalize_equals_numpy(images):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(augment.normalize(images, mean, std), expected, atol=1e-5)


def test_flip_mirrors_about_half_and_leaves_the_rest(images, keys):
    out = np.asarray(augment.random_flip(images, keys))
    kept = (out == images).all((1, 2, 3))
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_translate_shows_every_shifted_window_of_the_padded_image(images, keys, mode):
    image = np.repeat(images[:1], 64, 0)
    out = np.asarray(augment.random_translate(image, keys, 1, mode))
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)), mode=mode)
    windows = [padded[r : r + 6, c : c + 6] for r in range(3) for c in range(3)]
    found = [next(i for i, window in enumerate(windows) if (window == one).all()) for one in out]
    assert set(found) == set(range(9))


def test_randomness_is_of_key_epoch_and_index_not_of_the_place_in_the_batch(images):
    config = type(
        "Augment", (), dict(pad=2, pad_mode="constant", flip=True, mean=(0,) * 3, std=(1,) * 3)
    )
    index = np.arange(64, dtype=np.int32)
    batch = {"image": images, "index": index, "epoch": np.full(64, 3, np.int32)}
    order = np.random.default_rng(1).permutation(64)
    key = jax.random.key(5)
    one = np.asarray(augment.train_image(batch, key, config))
    other = augment.train_image({k: v[order] for k, v in batch.items()}, key, config)
    np.testing.assert_array_equal(one[order], other)
    later = augment.train_image({**batch, "epoch": np.full(64, 4, np.int32)}, key, config)
    assert (one != np.asarray(later)).any((1, 2, 3)).mean() > 0.9

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax import augment
from imagenet_jax.augment.color import normalize
from imagenet_jax.augment.geometry import random_flip, random_translate
from imagenet_jax.augment.keys import example_keys
from imagenet_jax.config import base_config


@pytest.fixture
def keys():
    epoch, index = jnp.zeros(64, jnp.int32), jnp.arange(64, dtype=jnp.int32)
    return example_keys(jax.random.key(0), epoch, index)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (64, 6, 6, 3), np.uint8)


def test_normalize_equals_numpy(images):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(normalize(images, mean, std), expected, atol=1e-5)


def test_flip_mirrors_about_half_and_leaves_the_rest(images, keys):
    out = np.asarray(random_flip(images, keys))
    kept = (out == images).all((1, 2, 3))
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_an_alternating_flip_mirrors_each_image_in_every_other_epoch(images):
    config = base_config().augment
    config.update(flip=True, flip_alternates=True, mean=(0, 0, 0), std=(1, 1, 1))

    def mirrored(epoch):
        index = np.arange(64, dtype=np.int32)
        batch = {"image": images, "index": index, "epoch": np.full(64, epoch, np.int32)}
        out = np.asarray(augment.train_image(batch, jax.random.key(0), config))
        plain = normalize(images, config.mean, config.std)
        assert all(
            (o == p).all() or (o == p[:, ::-1]).all() for o, p in zip(out, plain, strict=True)
        )
        return (out != plain).any((1, 2, 3))

    first = mirrored(0)
    assert 16 < first.sum() < 48
    np.testing.assert_array_equal(mirrored(1), ~first)
    np.testing.assert_array_equal(mirrored(2), first)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_translate_shows_every_shifted_window_of_the_padded_image(images, keys, mode):
    image = np.repeat(images[:1], 64, 0)
    out = np.asarray(random_translate(image, keys, 1, mode))
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)), mode=mode)
    windows = [padded[r : r + 6, c : c + 6] for r in range(3) for c in range(3)]
    found = [next(i for i, window in enumerate(windows) if (window == one).all()) for one in out]
    assert set(found) == set(range(9))


FIELDS = {
    "crop and flip": {"pad": 2, "flip": True},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "grey, solarize, blur, noise": {"grayscale": 0.5, "solarize": 0.5, "blur": 0.5, "noise": 0.1},
    "lighting": {"lighting": 0.1},
    "three-augment": {"three_augment": True},
    "erasing": {"erase": 0.9, "erase_area": (0.2, 0.4)},
    "erasing with noise": {
        **{"erase": 0.9, "erase_area": (0.2, 0.4), "erase_mode": "pixel", "erase_count": 2}
    },
}


@pytest.mark.parametrize("name", FIELDS)
def test_randomness_is_of_key_epoch_and_index_not_of_the_place_in_the_batch(images, name):
    config = base_config().augment
    config.flip = False
    config.update(FIELDS[name])
    index = np.arange(64, dtype=np.int32)
    batch = {"image": images, "index": index, "epoch": np.full(64, 3, np.int32)}
    order = np.random.default_rng(1).permutation(64)
    key = jax.random.key(5)
    augmented = jax.jit(lambda batch: augment.train_image(batch, key, config))
    one = np.asarray(augmented(batch))
    other = augmented({k: v[order] for k, v in batch.items()})
    np.testing.assert_allclose(one[order], other, atol=1e-6)
    later = augmented({**batch, "epoch": np.full(64, 4, np.int32)})
    assert np.abs(one - np.asarray(later)).max((1, 2, 3)).astype(bool).mean() > 0.6


def test_nothing_is_changed_where_nothing_is_asked_for(images):
    config = base_config().augment
    config.flip = False
    batch = {"image": images, "index": np.arange(64), "epoch": np.zeros(64, np.int32)}
    image, weight = augment.train_inputs(batch, jax.random.key(0), 0, config)
    np.testing.assert_array_equal(image, augment.eval_image(batch, config))
    assert weight is None


def test_colout_leaves_out_other_lines_at_each_step_alike_in_parts_of_a_batch(images):
    config = base_config().augment
    config.update(flip=False, colout=0.2)
    batch = {"image": images, "index": np.arange(64), "epoch": np.zeros(64, np.int32)}

    def run(batch, step):
        return np.asarray(augment.train_inputs(batch, jax.random.key(0), step, config)[0])

    whole = run(batch, 3)
    assert whole.shape == (64, 4, 4, 3)
    part = run({key: value[16:32] for key, value in batch.items()}, 3)
    np.testing.assert_array_equal(whole[16:32], part)
    assert not np.array_equal(whole, run(batch, 4))


def test_whatever_is_drawn_has_a_key_of_its_own(images, monkeypatch):
    """Keys shared by two augmentations, as of shift and flip, would tie one to the other."""
    drawn = []

    def note(keys):
        drawn.append(np.asarray(jax.random.key_data(keys)))
        return keys

    def augmentation(image, keys, *options):
        note(keys)
        return image

    for name in ("random_translate", "random_flip", "random_erasing"):
        monkeypatch.setattr(augment, name, augmentation)
    monkeypatch.setattr(augment.color, "random_color", augmentation)
    mixing = importlib.import_module("imagenet_jax.augment.mix")  # hidden by its function
    fold_in = mixing.fold_in
    monkeypatch.setattr(mixing, "fold_in", lambda keys, data: note(fold_in(keys, data)))
    config = base_config().augment
    config.update(pad=1, flip=True, brightness=0.1, erase=0.5, mixup=0.2)
    batch = {"image": images[:4], "index": np.arange(4, dtype=np.int32)}
    batch |= {"mask": np.ones(4, bool), "epoch": np.ones(4, np.int32)}
    augment.train_inputs(batch, jax.random.key(0), 0, config)
    keys = [tuple(key) for part in drawn for key in part]
    assert len(drawn) == 5 and len(keys) == 4 * 4 + 2 == len(set(keys))

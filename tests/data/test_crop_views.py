"""Several crops of each training image, as the host makes them."""

import dataclasses

import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.images.boxes import random_resized_crop, uniforms
from imagenet_jax.data.order import LATER
from imagenet_jax.errors import ConfigError

SIZE, SMALL, SEED = 8, 3, 7


def split(**fields):
    config = base_config()
    config.seed, config.batch_size = SEED, 40
    fields = {
        "crops": 2,
        "local_crops": 5,
        "local_size": SMALL,
        "resize_method": "nearest",
    } | fields
    config.data.update(
        name="digits", image_size=SIZE, eval_split="test", eval_crop="none", **fields
    )
    return open_split(config, train=True)


def batch(made, step=0):
    rows = np.arange(made.config.batch_size)
    (found,) = made.train_batches(rows, step, step + 1)
    return found


def test_each_view_is_the_crop_of_its_own_number():
    """And small ones lie in lines of two below the whole ones."""
    made = split()
    found = batch(made)
    assert found["image"].shape == (40, 2 * SIZE + 3 * SMALL, SIZE, 3)
    rows = np.arange(8)
    whole = dataclasses.replace(made, train=False).images(found["index"][rows])
    for row, pixels in zip(rows, whole, strict=True):
        for view in range(7):
            epoch, index = found["epoch"][row] + view * LATER, found["index"][row]
            uniform = uniforms(SEED, np.array([epoch]), np.array([index]), 40)
            data = made.config.data
            area = data.crop_area if view < 2 else data.local_area
            shape = np.array([pixels.shape[:2]])
            (box,) = random_resized_crop(shape, uniform, area, data.crop_ratio)
            top, left, height, width = box
            side = SIZE if view < 2 else SMALL
            down = top + np.int64((np.arange(side) + 0.5) * height / side)
            right = left + np.int64((np.arange(side) + 0.5) * width / side)
            line, place = divmod(view - 2, SIZE // SMALL)
            y, x = (view * SIZE, 0) if view < 2 else (2 * SIZE + line * SMALL, place * SMALL)
            there = found["image"][row, y : y + side, x : x + side]
            np.testing.assert_array_equal(there, pixels[np.ix_(down, right)])


def test_views_are_a_function_of_seed_epoch_and_index():
    """Whatever the batch that they come in; a further epoch has others."""
    made = split()
    first = batch(made)
    made.config.batch_size = 20
    both = [batch(made, step) for step in (0, 1)]
    for name, array in first.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in both]))
    crops = first["image"][:, :SIZE], first["image"][:, SIZE : 2 * SIZE]
    assert (crops[0] != crops[1]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_crop": "none"}, "each is a random crop, and config.data.train_crop = 'none'"),
        ({"views": 2}, "does not go with config.data.views"),
        ({"local_size": 9}, "local_size = 9 is more than the 8 pixels"),
        ({"cache": True}, "decodes another crop each epoch"),
    ],
)
def test_crops_that_would_not_differ_or_fit_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        split(**fields)

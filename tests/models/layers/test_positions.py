"""Learnt positions for images of another size, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.models.layers.positions import resampled


@pytest.mark.parametrize("grid", [(7, 7), (5, 9), (4, 4)])
def test_positions_are_resampled_as_pillow_enlarges_a_picture(grid):
    """And tokens that stand for no place are kept."""
    places = np.random.default_rng(0).normal(size=(1, 2 + 4 * 4, 3)).astype(np.float32)
    found = np.asarray(resampled(places, grid, first=2))
    assert found.shape == (1, 2 + grid[0] * grid[1], 3)
    np.testing.assert_array_equal(found[:, :2], places[:, :2])
    for channel in range(3):
        picture = Image.fromarray(places[0, 2:, channel].reshape(4, 4))
        wanted = np.asarray(picture.resize(grid[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[0, 2:, channel].reshape(grid), wanted, atol=1e-5)

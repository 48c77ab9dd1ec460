"""Random crops of a squeezed image."""

import pytest
from pixel_oracles import encode, noise
from test_preprocess import evaluated, trained

from imagenet_jax.config import base_config, validate
from imagenet_jax.data.names import check_data
from imagenet_jax.errors import ConfigError


def test_a_random_crop_is_taken_out_of_the_squeezed_image():
    """BiT's: every place is as likely, and what is cut out is not resized again."""
    pixels = noise(50, 60)
    options = {"train_crop": "resize_random_crop", "train_resize": 12, "image_size": 9}
    whole = evaluated(encode(pixels), eval_crop="resize", image_size=12)
    places = [(top, left) for top in range(4) for left in range(4)]
    windows = {whole[t : t + 9, left : left + 9].tobytes(): (t, left) for t, left in places}
    crops = [
        trained(encode(pixels), index, epoch, **options) for index in range(40) for epoch in (0, 1)
    ]
    found = [windows[crop.tobytes()] for crop in crops]
    assert set(found) >= {(0, 0), (0, 3), (3, 0), (3, 3)} and len(set(found)) > 12
    assert any(a != b for a, b in zip(found[::2], found[1::2], strict=True))


def test_a_random_crop_larger_than_the_image_is_refused():
    config = base_config()
    config.data.update(train_crop="resize_random_crop", train_resize=100, train_size=128)
    with pytest.raises(ConfigError, match="train_resize = 100 is smaller than the crop of 128 pix"):
        validate(config)
    config.data.update(train_resize=160, cache=True, name="digits")
    with pytest.raises(ConfigError, match="'resize_random_crop' decodes another crop each epoch"):
        check_data(config.data)

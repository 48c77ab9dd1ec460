import zipfile

import numpy as np
import pytest
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config


@pytest.fixture(scope="session")
def photos(test_data):
    """Real photographs {file name: JPEG}, every fortieth of the sample; some are grey."""
    archive = test_data / "imagenet_sample.zip"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")
    with zipfile.ZipFile(archive) as opened:
        names = [*opened.namelist()[::40], "n02676566_acoustic_guitar.JPEG"]
        return {name: opened.read(name) for name in names}


@pytest.fixture
def noise_folder(tmp_path):
    """Ten JPEGs of 12x16 pixels: train/{cat,dog}/K.jpg, even K are cats."""
    for k in range(10):
        file = tmp_path / "train" / ("cat", "dog")[k % 2] / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(noise(12, 16, seed=k), "JPEG", quality=95))
    return tmp_path


@pytest.fixture
def noise_config(noise_folder):
    """`noise_folder` in training batches of 4, cropped to 8x8; evaluated on the same images."""
    config = base_config()
    config.batch_size = 4
    config.data.name = f"folder:{noise_folder}"
    config.data.eval_split = "train"
    config.data.image_size = 8
    config.data.max_bad_fraction = 1.0
    return config


@pytest.fixture
def rows():
    """The rows of a whole batch of 4: one process holds them all."""
    return np.arange(4)

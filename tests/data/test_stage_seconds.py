"""The CPU time of the stages of the host pipeline."""

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data.catalog import open_split
from imagenet_jax.data.order import TrainOrder
from imagenet_jax.data.stages import STAGES, stage_seconds


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_the_images_of_mosaics_are_read_and_counted_once(tmp_path, suffix):
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(12):
        pixels = Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        pixels.save(tmp_path / f"images/{number}.{suffix.lower()}", suffix)
        levels = Image.fromarray(random.integers(0, 3, (40, 50), dtype=np.uint8))
        levels.save(tmp_path / f"masks/{number}.png")
    config = base_config()
    config.task = "segmentation"
    config.data.update(name=f"masks:{tmp_path}", image_size=32, train_crop="letterbox", mosaic=0.5)
    split = open_split(config, True, ("segmentation",))
    order = TrainOrder(0, split.num_examples, 8, np.arange(8))
    seconds = stage_seconds(split.pipeline(), [order(step) for step in range(3)])
    assert list(seconds) == list(STAGES) and all(value >= 0 for value in seconds.values())
    assert seconds["read"] > 0 and seconds["batch"] > 0

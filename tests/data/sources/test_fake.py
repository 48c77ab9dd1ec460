import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imagenet_jax
from imagenet_jax.config import base_config
from imagenet_jax.data import open_split


@pytest.fixture
def config():
    config = base_config()
    config.batch_size = 4
    config.data.name = "fake"
    config.data.image_size = 16
    config.data.fake_train_examples = 30
    config.data.fake_eval_examples = 10
    config.data.fake_classes = 7
    return config


def test_fake_images_need_no_tensorflow():
    program = """
import sys
import numpy as np
from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
config = base_config()
config.batch_size, config.data.name = 4, "fake"
batches = list(open_split(config, train=True).train_batches(np.arange(4), 0, 3))
batches.append(next(open_split(config, train=False).eval_batches(np.arange(4), 4)))
assert [b["image"].shape for b in batches] == [(4, 224, 224, 3)] * 4
print(sorted({"tensorflow", "tensorflow_datasets", "clu", "sklearn"} & set(sys.modules)))
"""
    root = Path(imagenet_jax.__file__).parents[1]
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert run.stdout == "[]\n", run.stderr


def test_fake_images_differ_by_example_and_labels_go_round(config):
    split = open_split(config, train=True)
    (batch,) = split.eval_batches(np.arange(30), 30)
    assert len({image.tobytes() for image in batch["image"]}) == 30
    np.testing.assert_array_equal(batch["label"], np.arange(30) % 7)
    assert (split.num_examples, split.num_classes) == (30, 7)


def test_fake_images_are_the_same_in_every_run(config):
    first, second = (
        list(open_split(config, train=True).train_batches(np.arange(4), 0, 9)) for _ in range(2)
    )
    for batch, other in zip(first, second, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_fake_pixels_are_noise_over_all_levels(config):
    config.data.image_size = 64
    (batch,) = open_split(config, train=True).eval_batches(np.arange(30), 30)
    level = np.bincount(batch["image"].ravel(), minlength=256) / batch["image"].size
    assert np.abs(level * 256 - 1).max() < 0.2  # about 6 standard deviations


def test_fake_batches_have_the_documented_dtypes_and_shapes(config):
    (batch,) = open_split(config, train=True).train_batches(np.arange(4), 0, 1)
    assert {name: (a.dtype.name, a.shape) for name, a in batch.items()} == {
        "image": ("uint8", (4, 16, 16, 3)),
        "label": ("int32", (4,)),
        "mask": ("bool", (4,)),
        "index": ("int32", (4,)),
        "epoch": ("int32", (4,)),
    }


def test_fake_evaluation_keeps_the_remainder(config):
    batches = list(open_split(config, train=False).eval_batches(np.arange(4), 4))
    index, mask, label = (
        np.concatenate([b[name] for b in batches]) for name in ("index", "mask", "label")
    )
    assert mask.tolist() == [True] * 10 + [False] * 2
    assert index.tolist() == [*range(10), -1, -1]
    assert not label[~mask].any()


def test_the_last_of_a_million_fake_images_is_there(config):
    config.data.fake_eval_examples = 1_281_167
    rows = np.array([1_281_166])
    (batch,) = open_split(config, train=False).eval_batches(rows, 1_281_167)
    assert batch["index"].tolist() == [1_281_166] and batch["label"].tolist() == [1_281_166 % 7]
    assert batch["image"].any()

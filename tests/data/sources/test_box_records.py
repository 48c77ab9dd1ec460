"""TFDS data sets with objects."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.sources import scenes
from imagenet_jax.data.sources.box_records import box_records
from imagenet_jax.errors import DataError


@pytest.fixture
def few_scenes(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "_COUNTS", {"train": 6, "test": 3})
    config = base_config()
    config.data.update(name="scenes", dir=str(tmp_path), eval_split="test", image_size=128)
    config.data.update(train_crop="none", eval_crop="none", max_objects=9)
    return config


@pytest.mark.parametrize("train", [True, False])
def test_scenes_have_their_boxes(few_scenes, train):
    split = open_split(few_scenes, train, ("boxes",))
    assert split.source.class_names == tuple("0123456789")
    count = 6 if train else 3
    (batch,) = split.eval_batches(np.arange(8), 8)
    assert batch["boxes"].shape == (8, 9, 4) and batch["mask"].sum() == count
    assert (batch["classes"][count:] == -1).all() and not batch["boxes"][count:].any()
    name = "train" if train else "test"
    expected = [scenes.make_scene(name, number) for number in range(count)]
    for row in range(count):
        there = batch["classes"][row] >= 0
        boxes = batch["boxes"][row][there]
        same = [one for one in expected if np.shape(one.boxes) == boxes.shape]
        (scene,) = [one for one in same if np.abs(one.boxes - boxes).max() < 1e-3]
        assert batch["classes"][row][there].tolist() == scene.labels.tolist()
        assert batch["size"][row].tolist() == [128, 128] and not batch["left_out"][row].any()
        np.testing.assert_allclose(
            batch["area"][row][there], np.prod(boxes[:, 2:] - boxes[:, :2], 1), rtol=1e-5
        )


def test_an_evaluation_with_too_many_objects_stops(few_scenes):
    few_scenes.data.max_objects = 1
    split = open_split(few_scenes, False, ("boxes",))
    with pytest.raises(DataError, match=r"objects, more than data.max_objects = 1; raise it"):
        list(split.eval_batches(np.arange(8), 8))


def test_features_without_boxes_are_named():
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
    with pytest.raises(DataError, match=r"has the features image, label; image and objects"):
        box_records([], features, "name", "there", 5)

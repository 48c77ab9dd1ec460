"""TFDS data sets with maps of classes."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.sources import scenes
from imagenet_jax.data.sources.map_records import map_records
from imagenet_jax.errors import DataError


@pytest.fixture
def few_scenes(monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "_COUNTS", {"train": 6, "test": 3})
    config = base_config()
    config.data.update(name="scenes", dir=str(tmp_path), eval_split="test", image_size=128)
    config.data.update(train_crop="none", eval_crop="none")
    return config


def test_scenes_are_written_and_read_back(few_scenes):
    split = open_split(few_scenes, False, ("segmentation",))
    assert split.num_examples == 3 and split.source.class_names[:2] == ("background", "0")
    (batch,) = split.eval_batches(np.arange(4), 4)
    assert batch["segmentation"].shape == (4, 128, 128) and batch["mask"].tolist() == [1, 1, 1, 0]
    assert (batch["segmentation"][3] == 255).all()
    expected = [scenes.make_scene("test", number) for number in range(3)]
    for levels, image in zip(batch["segmentation"][:3], batch["image"][:3], strict=True):
        (scene,) = [one for one in expected if np.array_equal(one.segmentation, levels)]
        assert np.abs(image.astype(int) - scene.image).mean() < 6  # a JPEG


def test_scenes_have_exact_boxes_and_depth_for_whoever_reads_them_otherwise(few_scenes):
    open_split(few_scenes, True, ("segmentation",))
    builder = scenes.Scenes(data_dir=few_scenes.data.dir, file_format="array_record")
    source = builder.as_data_source(split="train")
    expected = [scenes.make_scene("train", number) for number in range(6)]
    for row in range(6):
        found = source[row]
        instances = found["instances"][..., 0]
        (scene,) = [one for one in expected if np.array_equal(one.instances, instances)]
        boxes = np.array(found["objects"]["bbox"])[:, [1, 0, 3, 2]] * scenes.SIZE
        np.testing.assert_allclose(boxes, scene.boxes, atol=1e-4)
        assert list(found["objects"]["label"]) == scene.labels.tolist()
        assert np.array_equal(found["depth"][..., 0], scene.depth)


class Records:
    """One example in memory."""

    def __init__(self, **features):
        example = tf.train.Example()
        for name, value in features.items():
            example.features.feature[name].bytes_list.value.append(value)
        self.record = example.SerializeToString()

    def __len__(self):
        return 1

    def get(self, index):
        return [self.record] * len(index)

    def where(self, number):
        return "here"


def png(levels):
    file = io.BytesIO()
    Image.fromarray(np.array(levels, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("dataset", "image", "feature", "levels", "expected"),
    [
        ("oxford_iiit_pet", "image", "segmentation_mask", [1, 2, 3], [0, 1, 2]),
        ("cityscapes", "image_left", "segmentation_label", [0, 7, 33, 6], [255, 0, 18, 255]),
        ("scene_parse150", "image", "annotation", [0, 1, 150], [255, 0, 149]),
    ],
)
def test_levels_of_known_sets_become_numbers_of_classes(dataset, image, feature, levels, expected):
    records = Records(**{image: b"image", feature: png([levels])})
    source = map_records(records, dataset, {image: None, feature: None}, "a", "b")
    files, values = source.read(np.array([0]))
    assert bytes(files[0]) == b"image" and len(values["segmentation"]) == 1
    table = np.frombuffer(source.fields["segmentation"].table, np.uint8)
    assert table[levels].tolist() == expected
    assert max(k for k in expected if k < 255) < len(source.class_names)


def test_a_set_without_maps_is_refused(tmp_path):
    features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
    with pytest.raises(DataError, match=r"b has the features image, label; an image and a map"):
        map_records(Records(image=b""), "other", features, "a", "b")

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from pixel_oracles import bilinear, center_crop, pil_pixels

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.sources.digits import Digits
from imagenet_jax.errors import DataError


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def tfrecord_dir(tmp_path_factory):
    """The digits in the other format."""
    folder = tmp_path_factory.mktemp("tfrecord")
    Digits(data_dir=str(folder), file_format="tfrecord").download_and_prepare()
    assert list(folder.glob("digits/*/*.tfrecord*"))
    return folder


@pytest.fixture
def digits_config(digits_dir):
    config = base_config()
    config.data.name, config.data.dir = "digits", str(digits_dir)
    config.data.eval_split = "test"
    config.data.image_size = 8
    config.data.train_crop = config.data.eval_crop = "none"
    return config


def every_example(config, train):
    """Images and labels of a split, in order."""
    split = open_split(config, train)
    count = split.num_examples
    (batch,) = split.eval_batches(np.arange(count), count)
    assert batch["mask"].all()
    return batch["image"], batch["label"]


def test_digits_are_those_of_scikit_learn(digits_config):
    parts = [every_example(digits_config, train) for train in (True, False)]
    assert [len(label) for _, label in parts] == [1437, 360]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    assert (images == images[..., :1]).all()
    # As multisets of (label, pixels): no digit is in both parts, none is lost.
    expected = sklearn.datasets.load_digits()
    grey = np.round(expected.data * 255 / 16).astype(int)
    found = np.column_stack([labels, images[..., 0].reshape(-1, 64)])
    assert sorted(map(tuple, found)) == sorted(map(tuple, np.column_stack([expected.target, grey])))


def test_both_parts_of_digits_have_all_classes_in_like_shares(digits_config):
    for train in (True, False):
        _, labels = every_example(digits_config, train)
        share = np.bincount(labels, minlength=10) / len(labels)
        assert share.min() > 0.06 and share.max() < 0.14


def test_a_prepared_data_set_is_not_built_again(digits_config, digits_dir):
    def state():
        return {f: f.stat().st_mtime_ns for f in digits_dir.rglob("*")}

    open_split(digits_config, train=True)
    before = state()
    open_split(digits_config, train=True)
    open_split(digits_config, train=False)
    assert before and state() == before


def test_a_part_of_a_split_can_be_opened(digits_config):
    images, labels = every_example(digits_config, train=True)
    slices = {"[:90%]": slice(1293), "[90%:]": slice(1293, None), "[5:9]": slice(5, 9)}
    for name, part in slices.items():
        digits_config.data.train_split = f"train{name}"
        some_images, some_labels = every_example(digits_config, train=True)
        np.testing.assert_array_equal(some_images, images[part])
        np.testing.assert_array_equal(some_labels, labels[part])


@pytest.mark.parametrize("split", ["validation", "train[:x%]"])
def test_an_unknown_split_is_named_with_those_that_are_there(digits_config, split):
    digits_config.data.update(train_split="train[:90%]", eval_split=split)
    with pytest.raises(DataError) as error:
        open_split(digits_config, train=False)
    assert f"has no split {split!r}; it has train, test" in str(error.value)


def test_an_empty_part_of_a_split_is_refused(digits_config):
    digits_config.data.train_split = "train[5:5]"
    with pytest.raises(DataError, match="is empty"):
        open_split(digits_config, train=True)


def test_the_data_directory_can_come_from_the_environment(digits_config, tmp_path, monkeypatch):
    digits_config.data.dir = ""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    open_split(digits_config, train=True)
    assert list(tmp_path.glob("digits/*/*.array_record*"))


@pytest.mark.parametrize("split", ["train", "train[10%:50%]", "test"])
def test_tfrecord_files_give_the_examples_of_array_record_files(digits_config, tfrecord_dir, split):
    digits_config.data.eval_split = split
    images, labels = every_example(digits_config, train=False)
    digits_config.data.dir = str(tfrecord_dir)
    some_images, some_labels = every_example(digits_config, train=False)
    np.testing.assert_array_equal(some_images, images)
    np.testing.assert_array_equal(some_labels, labels)


def test_training_batches_of_tfrecord_files_are_those_of_array_record_files(
    digits_config, tfrecord_dir
):
    def batches():
        split = open_split(digits_config, train=True)
        return list(split.train_batches(np.arange(64), 500_000, 500_003))

    digits_config.batch_size = 64
    expected = batches()
    digits_config.data.dir = str(tfrecord_dir)
    for batch, other in zip(batches(), expected, strict=True):
        for name in other:
            np.testing.assert_array_equal(batch[name], other[name])


def test_an_unknown_data_set_is_named_with_near_ones(digits_config, digits_dir):
    open_split(digits_config, train=True)
    digits_config.data.name = "digit"
    with pytest.raises(
        DataError, match=r"no data set 'digit' in .* \(it has digits\).*near.*digits"
    ):
        open_split(digits_config, train=True)


def test_a_missing_file_is_named(digits_config, tmp_path):
    digits_config.data.dir = str(tmp_path)
    open_split(digits_config, train=True)
    (file,) = tmp_path.glob("digits/*/*train*")
    file.unlink()
    with pytest.raises(DataError, match=f"lacks 1 of 1 files: {file}"):
        open_split(digits_config, train=True)


def test_a_damaged_array_record_file_is_named_with_the_byte(digits_config, tmp_path):
    digits_config.data.dir = str(tmp_path)
    open_split(digits_config, train=True)
    (file,) = tmp_path.glob("digits/*/*train*")
    content = bytearray(file.read_bytes())
    content[70_000] ^= 1
    file.write_bytes(content)
    split = open_split(digits_config, train=True)
    message = rf"{file}, record \d+: .*chunk at \d+ .*; at byte \d+"
    with pytest.raises(DataError, match=message):
        list(split.train_batches(np.arange(256), 0, 6))


@pytest.mark.parametrize("length", [0, 100_000, -1])
def test_an_array_record_file_that_was_cut_short_is_named(digits_config, tmp_path, length):
    digits_config.data.dir = str(tmp_path)
    open_split(digits_config, train=True)
    (file,) = tmp_path.glob("digits/*/*train*")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DataError, match=str(file)):
        list(open_split(digits_config, train=True).train_batches(np.arange(256), 0, 6))


# Neither in the order of the archive nor of each other: n01440764 has label 0, n15075141 999.
TRAIN_CLASSES = {"n03825788": 3, "n15075141": 2, "n01440764": 2}
VAL_NUMBERS = [3, 1, 6, 2, 5, 4]


def official(name):
    """The lines of a file that TFDS keeps beside its builder of imagenet2012."""
    return Path(tfds.core.tfds_path(f"datasets/imagenet2012/{name}")).read_text().split()


def tar_of(files):
    """A tar archive of {name: content}, as bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def imagenet(photos, tmp_path_factory):
    """The data directory, and the images of "train" and "val" as {file name: JPEG}."""
    directory = tmp_path_factory.mktemp("imagenet")
    jpegs = iter(photos.values())
    train = {
        wnid: {f"{wnid}_{k}.JPEG": next(jpegs) for k in range(1, count + 1)}
        for wnid, count in TRAIN_CLASSES.items()
    }
    val = {f"ILSVRC2012_val_{k:08d}.JPEG": next(jpegs) for k in VAL_NUMBERS}
    manual = directory / "downloads" / "manual"
    manual.mkdir(parents=True)
    classes = {f"{wnid}.tar": tar_of(files) for wnid, files in train.items()}
    (manual / "ILSVRC2012_img_train.tar").write_bytes(tar_of(classes))
    (manual / "ILSVRC2012_img_val.tar").write_bytes(tar_of(val))
    return directory, {name: jpeg for files in train.values() for name, jpeg in files.items()}, val


@pytest.fixture
def imagenet_config(imagenet):
    config = base_config()
    config.data.name, config.data.dir = "imagenet2012", str(imagenet[0])
    config.batch_size = 4
    return config


def name_of(jpeg, files):
    """The file of these bytes."""
    return next(name for name, content in files.items() if content == jpeg)


def test_imagenet_training_labels_are_positions_in_the_official_list(imagenet_config, imagenet):
    _, files, _ = imagenet
    split = open_split(imagenet_config, train=True)
    assert split.num_classes == 1000
    encoded, fields = split.source.read(np.arange(split.num_examples))
    labels = fields["label"]
    names = [name_of(jpeg, files) for jpeg in encoded]
    assert sorted(names) == sorted(files)
    order = official("labels.txt")
    assert labels.tolist() == [order.index(name.partition("_")[0]) for name in names]
    assert set(labels) == {0, 999, order.index("n03825788")}


def test_imagenet_validation_labels_are_the_official_ones(imagenet_config, imagenet):
    _, _, files = imagenet
    split = open_split(imagenet_config, train=False)
    encoded, fields = split.source.read(np.arange(split.num_examples))
    labels = fields["label"]
    names = [name_of(jpeg, files) for jpeg in encoded]
    assert sorted(names) == sorted(files)
    order, answers = official("labels.txt"), official("validation_labels.txt")
    numbers = [int(name.removesuffix(".JPEG")[-8:]) for name in names]
    assert labels.tolist() == [order.index(answers[number - 1]) for number in numbers]
    assert re.search(rf"example 0 in \S+, record 0 \({names[0]}\)", split.source.describe(0))


def test_imagenet_evaluation_images_equal_pillow(imagenet_config):
    split = open_split(imagenet_config, train=False)
    encoded, fields = split.source.read(np.arange(6))
    batches = list(split.eval_batches(np.arange(4), 4))
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    found = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(found, fields["label"])
    assert images.shape == (6, 224, 224, 3) and images.dtype == np.uint8
    for image, jpeg in zip(images, encoded, strict=True):
        expected = bilinear(center_crop(pil_pixels(jpeg), 0.875), 224)
        wrong = np.abs(image - expected)
        assert wrong.mean() < 0.4 and np.quantile(wrong, 0.99) <= 1.5


def test_imagenet_training_images_are_random_crops(imagenet_config):
    split = open_split(imagenet_config, train=True)
    labels = split.source.read(np.arange(7))[1]["label"]
    batches = list(split.train_batches(np.arange(4), 0, 7))
    crops = {}
    for batch in batches:
        assert batch["image"].shape == (4, 224, 224, 3) and batch["image"].dtype == np.uint8
        np.testing.assert_array_equal(batch["label"], labels[batch["index"]])
        for index, image in zip(batch["index"], batch["image"], strict=True):
            crops.setdefault(int(index), []).append(image.tobytes())
    assert sorted(crops) == list(range(7))
    assert {len(set(images)) for images in crops.values()} == {4}  # another one each epoch


@pytest.mark.parametrize("there", [(), ("train",), ("val",)])
def test_missing_imagenet_archives_are_named(tmp_path, there):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for part in there:
        (manual / f"ILSVRC2012_img_{part}.tar").write_bytes(tar_of({}))
    config = base_config()
    config.data.name, config.data.dir = "imagenet2012", str(tmp_path)
    with pytest.raises(DataError) as error:
        open_split(config, train=True)
    for part in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", f"both into {manual}"):
        assert part in str(error.value)


def test_a_broken_imagenet_archive_is_reported(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    for part in ("train", "val"):
        (manual / f"ILSVRC2012_img_{part}.tar").write_bytes(b"no archive" * 100)
    config = base_config()
    config.data.name, config.data.dir = "imagenet2012", str(tmp_path)
    with pytest.raises(DataError, match=r"imagenet2012 .* preparing it failed: ReadError"):
        open_split(config, train=True)

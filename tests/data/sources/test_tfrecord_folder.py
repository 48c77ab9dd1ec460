import subprocess

import numpy as np
import pytest
import tensorflow as tf
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.data.sources.imagenet import NAMES, SYNSETS
from imagenet_jax.errors import DataError

PIXELS = [noise(6, 5 + k) for k in range(9)]


def example(**features):
    """A tf.train.Example as tensorflow/tpu's imagenet_to_gcs.py writes it."""
    feature = {}
    for name, value in features.items():
        if isinstance(value, bytes):
            kind = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        else:
            kind = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        feature[name.replace("__", "/")] = kind
    message = tf.train.Example(features=tf.train.Features(feature=feature))
    return message.SerializeToString()


def imagenet_example(k):
    return example(
        image__encoded=encode(PIXELS[k]),
        image__class__label=1 + 100 * k,
        image__class__synset=SYNSETS[100 * k].encode(),
        image__filename=f"{SYNSETS[100 * k]}_{k}.JPEG".encode(),
        image__height=6,
    )


def write(folder, split, shards, make=imagenet_example, *, count=9, compression="", suffix=""):
    """`count` examples, shard by shard in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = folder / f"{split}-{shard:05d}-of-{shards:05d}{suffix}"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for k in range(shard, count, shards):
                writer.write(make(k))


def opened(folder, split="train", train=False):
    config = base_config()
    config.data.update(name=f"tfrecord:{folder}", train_split=split, eval_split=split)
    return open_split(config, train)


def check(source):
    images, fields = source.read(np.arange(9))
    order = [0, 4, 8, 1, 5, 2, 6, 3, 7]  # shard by shard
    np.testing.assert_array_equal(fields["label"], [100 * k for k in order])
    assert [bytes(image) for image in images] == [encode(PIXELS[k]) for k in order]
    assert source.name(1) == f"{SYNSETS[400]}_4.JPEG"


def test_imagenet_as_it_lies_in_buckets(tmp_path):
    write(tmp_path, "train", 4)
    split = opened(tmp_path, train=True)
    assert (split.num_examples, split.num_classes) == (9, 1000)
    check(split.source)
    assert split.source.class_names[0] == "n01440764"


def test_splits_may_be_folders(tmp_path):
    write(tmp_path / "train", "train", 4)
    write(tmp_path / "validation", "validation", 1)
    check(opened(tmp_path).source)
    assert opened(tmp_path, "validation").num_examples == 9
    with pytest.raises(DataError, match=r"no files test-.* \(splits found: train, validation\)"):
        opened(tmp_path, "test")


def test_a_folder_may_be_called_like_a_pattern(tmp_path):
    write(tmp_path / "a [1]*?", "train", 4)
    check(opened(tmp_path / "a [1]*?").source)


def test_slims_data_sets_name_their_classes(tmp_path):
    def make(k):
        return example(image__encoded=encode(PIXELS[k]), image__class__label=k % 2)

    write(tmp_path, "flowers_train", 1, make)
    (tmp_path / "labels.txt").write_text("0:daisy\n1:rose\n")
    source = opened(tmp_path).source
    assert source.class_names == ("daisy", "rose")
    np.testing.assert_array_equal(source.read(np.arange(4))[1]["label"], [0, 1, 0, 1])
    (tmp_path / "labels.txt").write_text("daisy\nrose\n")
    with pytest.raises(DataError, match=r"labels\.txt: expected a line NUMBER:NAME"):
        opened(tmp_path)
    (tmp_path / "labels.txt").write_bytes(b"0:daisy\n1:ros\xe9\n")
    with pytest.raises(DataError, match=r"labels\.txt is not UTF-8"):
        opened(tmp_path)


def test_a_lost_shard_and_other_features_are_named(tmp_path):
    write(tmp_path, "train", 4)
    (tmp_path / "train-00002-of-00004").unlink()
    with pytest.raises(DataError, match="lacks 1 of 4 files: train-00002-of-00004"):
        opened(tmp_path)
    write(tmp_path / "b", "train", 1, lambda k: example(image=b"", label=k))
    with pytest.raises(DataError, match=r"has image, label; image/encoded is needed"):
        opened(tmp_path / "b")


def test_an_empty_shard_is_none_of_the_examples_and_told(tmp_path, caplog):
    write(tmp_path / "old", "train", 12)  # of 9 examples
    empty = [f"{tmp_path}/old/train-{k:05d}-of-00012" for k in (9, 10, 11)]
    source = opened(tmp_path / "old").source
    images, fields = source.read(np.arange(9))
    np.testing.assert_array_equal(fields["label"], [100 * k for k in range(9)])
    assert [bytes(image) for image in images] == [encode(pixels) for pixels in PIXELS]
    assert source.left_out == {"without records": empty}
    assert f"3 without records (e.g. {empty[0]})" in caplog.text
    write(tmp_path / "old", "validation", 2, count=1)
    report = prepare(f"tfrecord:{tmp_path}/old", data_dir=str(tmp_path), workers=1)
    assert report["left_out"]["without records"] == [
        *empty,
        f"{tmp_path}/old/validation-00001-of-00002",
    ]
    assert [facts["num_examples"] for facts in report["splits"].values()] == [9, 1]


def test_a_split_of_empty_shards_is_refused(tmp_path):
    write(tmp_path, "train", 3, count=0)
    with pytest.raises(DataError, match="split train has no records: its 3 files are empty"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("kind", "suffix", "count"),
    [
        *(("GZIP", "", 9), ("GZIP", ".gz", 9), ("GZIP", ".tfrecord.gz", 9), ("ZLIB", "", 9)),
        *(("GZIP", "", 0), ("ZLIB", "", 0)),
    ],
)
def test_compressed_shards_are_refused_with_a_command_that_mends_them(
    tmp_path, kind, suffix, count
):
    folder = tmp_path / "my set"
    write(folder, "train", 2, compression=kind, suffix=suffix, count=count)
    for open_it in opened, lambda folder: prepare(f"tfrecord:{folder}", data_dir=str(tmp_path)):
        with pytest.raises(
            DataError, match=rf"-of-00002{suffix} is compressed \({kind}\)"
        ) as error:
            open_it(folder)
    subprocess.run(str(error.value).split("\n")[1], shell=True, check=True)
    if count:
        np.testing.assert_array_equal(
            opened(folder).source.read(np.arange(9))[1]["label"],
            [0, 200, 400, 600, 800, 100, 300, 500, 700],
        )


def test_names_are_text_whatever_they_are_stored_as(tmp_path):
    names = (7, b"caf\xe9.jpg", b"caf\xe8.jpg", "\u00e9.jpg".encode())

    def make(k):
        name = {"image__filename": names[k]} if k < 4 else {}
        return example(image__encoded=encode(PIXELS[k]), image__class__label=1, **name)

    write(tmp_path, "train", 1, make, count=5)
    source = opened(tmp_path).source
    found = [source.name(index) for index in np.arange(5)]
    assert found == ["7", r"caf\xe9.jpg", r"caf\xe8.jpg", "\u00e9.jpg", "4"]
    assert source.describe(0).endswith("(7)")
    report = prepare(f"tfrecord:{tmp_path}", data_dir=str(tmp_path / "new"), name="new", workers=1)
    config = base_config()
    config.data.update(name="new", dir=str(tmp_path / "new"))
    stored = open_split(config, True).source
    assert sorted(stored.name(index) for index in range(5)) == sorted(found)
    assert report["splits"]["train"]["num_examples"] == 5


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image__class__label": b"tench"}, "image/class/label is needed, a whole number"),
        ({"image__encoded": 3}, "image/encoded is needed, the bytes of an image"),
    ],
)
def test_features_of_another_type_are_refused(tmp_path, features, message):
    good = {"image__encoded": encode(PIXELS[0]), "image__class__label": 1}
    write(tmp_path, "train", 1, lambda k: example(**{**good, **features}))
    with pytest.raises(DataError, match=message):
        opened(tmp_path)
    write(tmp_path, "validation", 1, lambda k: example(**{**good, **(features if k else {})}))
    with pytest.raises(ValueError, match="the record has no image/encoded and image/class/label"):
        opened(tmp_path, "validation").source.read(np.arange(2))


def test_the_background_class_is_out_of_range(tmp_path):
    write(
        tmp_path,
        "validation",
        1,
        lambda k: example(image__encoded=encode(PIXELS[k]), image__class__label=0),
    )
    with pytest.raises(ValueError, match="label -1 is none of 0 to 999"):
        opened(tmp_path, "validation").source.read(np.arange(1))


def test_prepare_stores_it_anew(tmp_path):
    write(tmp_path / "old", "train", 4)
    write(tmp_path / "old", "validation", 1)
    report = prepare(f"tfrecord:{tmp_path}/old", data_dir=str(tmp_path), workers=1)
    counts = {split: facts["num_examples"] for split, facts in report["splits"].items()}
    assert counts == {"train": 9, "validation": 9}
    config = base_config()
    config.data.update(name=report["name"], dir=str(tmp_path))
    source = open_split(config, True).source
    assert sorted(source.read(np.arange(9))[1]["label"]) == [100 * k for k in range(9)]
    assert len(source.class_names) == 1000


def test_classes_of_imagenet_are_tfds_synsets():
    from importlib.resources import files

    folder = files("tensorflow_datasets") / "datasets" / "imagenet2012"
    assert list(SYNSETS) == (folder / "labels.txt").read_text().split()
    assert (NAMES[0], NAMES[999]) == ("tench", "toilet tissue")
    assert len(set(NAMES)) == 1000

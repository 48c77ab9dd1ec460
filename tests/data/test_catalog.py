import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.catalog import evaluation_split
from imagenet_jax.data.names import FILES, place_of
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.errors import ConfigError, DataError


@pytest.mark.parametrize("name", ["", "folder:", "zip:", "tar:x.tar"])
def test_an_unknown_data_set_is_refused_with_what_is_possible(name):
    config = base_config()
    config.data.name = name
    with pytest.raises(ConfigError) as error:
        open_split(config, train=True)
    assert f"config.data.name = {name!r}" in str(error.value)
    for choice in ("imagenet2012", "cifar10", "digits", "fake", "folder:PATH", "zip:PATH"):
        assert choice in str(error.value)


@pytest.mark.parametrize("train", [True, False])
def test_random_crops_cannot_be_cached(noise_config, train):
    """Said at whichever split is opened first, before anything is decoded."""
    noise_config.data.cache = True
    with pytest.raises(ConfigError, match=r"data\.cache = True .*data\.train_crop"):
        open_split(noise_config, train)


@pytest.mark.parametrize("fields", [{"policy": "randaugment"}, {"rotate": 5.0}, {"translate": 0.1}])
def test_what_the_host_augments_anew_each_epoch_cannot_be_cached(noise_config, fields):
    noise_config.data.cache, noise_config.data.train_crop = True, "resize"
    noise_config.data.update(fields)
    with pytest.raises(ConfigError, match=r"data\.cache = True .*data\.policy"):
        open_split(noise_config, train=True)


def test_a_split_knows_its_name_and_size(noise_config, noise_folder):
    (noise_folder / "train").rename(noise_folder / "all")
    noise_config.data.train_split = "all"
    split = open_split(noise_config, train=True)
    assert (split.name, split.num_examples, split.num_classes) == ("all", 10, 2)


def test_the_two_splits_are_those_of_the_config(noise_config, noise_folder):
    noise_config.data.eval_split = "held_out"
    (noise_folder / "held_out/dog").mkdir(parents=True)
    (noise_folder / "train/dog/9.jpg").rename(noise_folder / "held_out/dog/9.jpg")
    assert [open_split(noise_config, train).num_examples for train in (True, False)] == [9, 1]


def record(label):
    """An image in the form of `tfrecord:`."""
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(encode(noise(6, 5)))
    example.features.feature["image/class/label"].int64_list.value.append(label)
    return example.SerializeToString()


@pytest.fixture
def photos_of(tmp_path):
    """Makes a data set of a kind with a split of so many photos by each name."""

    def make(kind, splits):
        for split, count in splits.items():
            for name, k in itertools.product(("cat", "dog"), range(count)):
                file = tmp_path / "photos" / split / name / f"{k}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encode(noise(6, 5, seed=k)))
        folder, config = tmp_path / "photos", base_config()
        config.data.name, config.data.dir = f"folder:{folder}", str(tmp_path)
        if kind == "zip":
            config.data.name = f"zip:{shutil.make_archive(str(tmp_path / 'a'), 'zip', folder)}"
        elif kind == "csv":
            lines = (f"{p},{p.parent.name},{p.parent.parent.name}" for p in folder.rglob("*.png"))
            (tmp_path / "a.csv").write_text("\n".join(["path,label,split", *lines]))
            config.data.name = f"csv:{tmp_path}/a.csv"
        elif kind == "tfds":
            prepare(config.data.name, data_dir=str(tmp_path), name="mine", workers=1)
            config.data.name = "mine"
        elif kind == "tfrecord":
            (tmp_path / "records").mkdir()
            for split, count in splits.items():
                with tf.io.TFRecordWriter(f"{tmp_path}/records/{split}-00000-of-00001") as writer:
                    for k in range(2 * count):
                        writer.write(record(1 + k))
            config.data.name = f"tfrecord:{tmp_path}/records"
        return config

    return make


@pytest.mark.parametrize("kind", ["folder", "zip", "csv", "tfds", "tfrecord"])
def test_val_stands_for_validation_and_the_log_says_so(photos_of, kind, caplog):
    config = photos_of(kind, {"train": 3, "val": 2, "test": 1})
    split = open_split(config, train=False)
    assert (split.name, split.num_examples) == ("val", 4)
    said = f"{config.data.name} has no split 'validation': 'val' stands for it"
    assert caplog.text.count(said) == 1 and config.data.eval_split == "validation"
    assert (
        open_split(config, train=True).name,
        evaluation_split(config.data.name, config.data.dir),
    ) == ("train", "val")
    config.data.eval_split = "absent"
    with pytest.raises(DataError, match=r"absent.*(train, val|val, test)"):
        open_split(config, train=False)


@pytest.mark.parametrize(
    ("splits", "asked", "found"),
    [
        (("train", "valid"), "validation[:50%]", "valid[:50%]"),
        (("train", "Validation"), "val", "Validation"),
        (("train", "eval"), "validation", "eval"),
        (("train", "validation", "val"), "val", "val"),  # it is there
    ],
)
def test_one_split_to_validate_on_stands_for_another(photos_of, splits, asked, found):
    config = photos_of("folder", dict.fromkeys(splits, 2))
    config.data.eval_split = asked
    assert open_split(config, train=False).name == found


@pytest.mark.parametrize("kind", ["folder", "csv", "tfds", "tfrecord"])
def test_test_stands_for_validation_where_nobody_chose(photos_of, kind, caplog):
    config = photos_of(kind, {"train": 3, "test": 2})
    split = open_split(config, train=False)
    assert (split.name, split.num_examples) == ("test", 4)
    assert "has no split 'validation': 'test' stands for it" in caplog.text
    config.data.eval_split = "val"
    with pytest.raises(DataError, match="val"):
        open_split(config, train=False)


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "valid")])
def test_no_split_stands_for_another_where_it_is_not_clear(photos_of, splits):
    config = photos_of("folder", dict.fromkeys(splits, 2))
    config.data.train_split = "train[:50%]"
    with pytest.raises(DataError, match=rf"no images in validation.*{', '.join(sorted(splits))}\)"):
        open_split(config, train=False)


@pytest.mark.parametrize("train_crop", ["random_resized_crop", "center_crop"])
def test_the_seed_changes_order_and_random_crops(noise_config, train_crop):
    noise_config.batch_size, rows = 10, np.arange(10)
    noise_config.data.train_crop = train_crop
    batches = []
    for noise_config.seed in (0, 1):
        batch = next(open_split(noise_config, train=True).train_batches(rows, 0, 1))
        batches.append((batch["index"], batch["image"][np.argsort(batch["index"])]))
    (first_order, first), (second_order, second) = batches
    assert (first_order != second_order).any()
    changed = (first != second).any((1, 2, 3))
    assert changed.all() if train_crop == "random_resized_crop" else not changed.any()


def test_home_is_found_in_the_name_of_every_kind(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for kind in (*FILES, "tfrecord"):
        assert place_of(f"{kind}:~/photos") == (kind, "/home/me/photos")
    assert place_of("tfrecord:gs://bucket/~x") == ("tfrecord", "gs://bucket/~x")


@pytest.mark.parametrize("kind", ["folder", "fold", "records", "fake"])
def test_a_balanced_stream_of_any_source_has_each_class_equally_often(kind, noise_config, rows):
    folder = noise_config.data.name.partition(":")[2]
    for k in range(10, 16):  # cats are in the minority
        shutil.copyfile(f"{folder}/train/dog/{k % 5 * 2 + 1}.jpg", f"{folder}/train/dog/{k}.jpg")
    noise_config.data.sampling = "balanced"
    if kind == "fold":
        noise_config.data.update(folds=2, train_split="train")
    if kind == "records":
        prepare(noise_config.data.name, data_dir=f"{folder}/prepared", name="noise", workers=1)
        noise_config.data.update(name="noise", dir=f"{folder}/prepared")
    if kind == "fake":
        noise_config.data.update(name="fake", fake_train_examples=7, fake_classes=2)
    split = open_split(noise_config, train=True)
    batches = list(split.train_batches(rows, 0, 11))
    assert all(sorted(batch["label"].tolist()) == [0, 0, 1, 1] for batch in batches)
    index, label = (np.concatenate([b[name] for b in batches]) for name in ("index", "label"))
    for number in range(2):
        seen = np.bincount(index[label == number])
        assert seen.sum() == 22 and np.ptp(seen[seen > 0]) <= 1
    assert (np.bincount(index, minlength=split.num_examples) > 0).all()


def test_a_balanced_stream_needs_one_label_an_image(noise_config, rows):
    noise_config.data.update(sampling="balanced", name="fake")
    split = open_split(noise_config, train=True, reads=("labels",))
    with pytest.raises(DataError, match="images need one label each"):
        split.train_batches(rows, 0, 1)

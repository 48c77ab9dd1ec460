"""Folds of a cross-validation, and slices."""

from pathlib import Path

import numpy as np
import pytest

from imagenet_jax.config import base_config, validate
from imagenet_jax.data import check_splits, open_split
from imagenet_jax.data.names import check_data
from imagenet_jax.data.preparation.prepare import prepare
from imagenet_jax.errors import ConfigError, DataError


def fold_config(fold, folds=3):
    config = base_config()
    config.data.name, config.data.image_size = "fake", 8
    config.data.fake_train_examples = 50
    config.data.folds, config.data.fold = folds, fold
    return config


def test_every_example_is_evaluated_in_one_fold_and_trained_on_in_the_others():
    whole = open_split(fold_config(0, folds=0), train=True).source
    evaluated = []
    for fold in range(3):
        parts = [open_split(fold_config(fold), train=train).source for train in (True, False)]
        assert not set(parts[0].index) & set(parts[1].index)
        assert len(parts[0]) + len(parts[1]) == 50
        evaluated += list(parts[1].index)
        images, labels, _ = parts[1].arrays(np.arange(len(parts[1])))
        expected = whole.arrays(parts[1].index)
        assert (images == expected[0]).all() and (labels["label"] == expected[1]["label"]).all()
    assert sorted(evaluated) == list(range(50))


def test_folds_of_encoded_images(test_data):
    config = fold_config(1)
    config.data.name = f"zip:{test_data}/imagenet_sample.zip"
    config.data.image_size = 32
    split = open_split(config, train=False)
    assert split.name == "train, fold 1 of 3" and split.num_examples in (166, 167)
    batch = next(split.eval_batches(np.arange(4), 4))
    assert batch["mask"].all()
    assert (batch["label"] == split.source.source.read(split.source.index[:4])[1]["label"]).all()
    assert split.source.name(3) in split.source.describe(3)


@pytest.mark.parametrize(("fold", "folds"), [(3, 3), (0, 1)])
def test_impossible_folds_are_refused(fold, folds):
    with pytest.raises(ConfigError, match=r"data\.fold"):
        validate(fold_config(fold, folds))


def test_a_fold_without_images_is_refused():
    for train in (True, False):
        assert len(open_split(fold_config(49, 50), train).source) == (49 if train else 1)
    with pytest.raises(DataError, match=r"fold 50 of 51 .* 50 images; set data.folds to 50"):
        open_split(fold_config(50, 51), train=False)


def test_slices_of_files_share_no_image_and_have_all_classes(noise_folder, caplog):
    config = base_config()
    config.data.update(name=f"folder:{noise_folder}", train_split="train[:60%]")
    config.data.eval_split = "train[60%:]"
    train, held_out = (open_split(config, part).source for part in (True, False))
    assert (len(train), len(held_out)) == (6, 4)
    names = [source.name(k) for source in (train, held_out) for k in range(len(source))]
    assert len(set(names)) == 10
    assert set(train.read(np.arange(6))[1]["label"]) == {0, 1}
    for begin, count in (("-3", 3), ("-30%", 3), ("-0.1%", 0)):  # the last of no images, not of all
        config.data.eval_split = f"train[{begin}:]"
        assert not count or len(open_split(config, False).source) == count
    with pytest.raises(DataError, match="10 images is none"):
        open_split(config, False)
    config.data.train_split, config.data.eval_split = "train[:-30%]", "train[-30%:]"
    check_splits(*(open_split(config, part) for part in (True, False)))
    assert "of what was learnt" not in caplog.text
    for split, shared in (("train[:80%]", 1), ("train", 3)):
        config.data.train_split = split
        check_splits(*(open_split(config, part) for part in (True, False)))
        assert f"{shared} of the 3 examples of train[-30%:] are in {split}, too" in caplog.text
    for wrong, message in (("train[", "expected NAME, NAME"), ("train[0:0]", "10 images is none")):
        config.data.eval_split = wrong
        with pytest.raises(DataError, match=message):
            open_split(config, False)
    config.data.train_split, config.data.eval_split = "train[:80%]", "validation"
    with pytest.raises(DataError, match=r"hold a part out: data\.train_split=train\[:90%\]"):
        open_split(config, False)


@pytest.mark.parametrize(
    "name", ["imagenet2012:5.0.0", "imagenet2012/c:5.*.*", "mnist_corrupted/fog"]
)
def test_versions_and_configs_of_tfds_are_names(name):
    config = base_config()
    config.data.name = name
    check_data(config.data)


def test_another_version_that_is_stored_is_taken(tmp_path, noise_folder, caplog):
    report = prepare(f"folder:{noise_folder}", data_dir=str(tmp_path), name="cats", workers=1)
    Path(report["path"]).parent.rename(tmp_path / "imagenet2012")
    (tmp_path / "imagenet2012/1.0.0").rename(tmp_path / "imagenet2012/5.0.0")
    for file in (tmp_path / "imagenet2012/5.0.0").glob("cats*"):
        file.rename(file.with_name(file.name.replace("cats", "imagenet2012")))
    info = tmp_path / "imagenet2012/5.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("1.0.0", "5.0.0").replace("cats", "imagenet2012"))
    config = base_config()
    config.data.update(name="imagenet2012", dir=str(tmp_path))
    assert open_split(config, True).num_examples == 10
    assert "taking the version 5.0.0 that is there" in caplog.text

"""Classes that cannot be learnt are named before training."""

import numpy as np
import pytest
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config
from imagenet_jax.data import check_splits, open_split
from imagenet_jax.errors import DataError


def splits(folder, names):
    """Both splits of a folder with one image in each of SPLIT/CLASS."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_bytes(encode(noise(8, 8)))
    config = base_config()
    config.data.update(name=f"folder:{folder}", train_split="train", eval_split="val")
    return open_split(config, True), open_split(config, False)


def test_classes_of_one_split_alone_are_named(tmp_path, caplog):
    names = [*(f"train/{k}" for k in range(9)), "train/cat", "val/cat", "val/dog"]
    check_splits(*splits(tmp_path, names))
    assert "1 classes have no images in train: dog" in caplog.text
    assert "9 classes have no images in val: 0, 1, 2, 3, 4 and 4 more" in caplog.text


def test_one_class_by_two_names_is_refused(tmp_path):
    both = splits(tmp_path, ["train/Big Cats", "train/dog", "val/big_cats", "val/dog"])
    with pytest.raises(DataError, match="'Big Cats' has images in train alone and 'big_cats' in v"):
        check_splits(*both)


def test_a_single_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="has a single class, 'cat': there is nothing to tell apa"):
        check_splits(*splits(tmp_path, ["train/cat", "val/cat"]))


def test_what_is_left_out_is_said_once(tmp_path, caplog):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/notes.txt").write_text("")
    train, _ = splits(tmp_path, ["train/dog", "val/dog"])
    assert caplog.text.count(f"folder:{tmp_path}: left out: 1 no image (e.g. train/cat/notes.") == 1
    assert np.array_equal(train.source.class_counts(), [1])

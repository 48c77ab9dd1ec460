"""Classes that cannot be learnt are named before training."""

import numpy as np
import pytest
from pixel_oracles import encode, noise

from imagenet_jax.config import base_config
from imagenet_jax.data import check_splits, open_split
from imagenet_jax.data.preparation.prepare import prepare
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


@pytest.mark.parametrize(
    "one, other",
    [("Big Cats", "big_cats"), ("caf\u00e9", "cafe\u0301"), ("dog ", "dog"), ("a-b", "ab")],
)
def test_one_class_by_two_names_is_refused(tmp_path, one, other):
    both = splits(tmp_path, [f"train/{one}", "train/ant", f"val/{other}", "val/ant"])
    with pytest.raises(DataError, match=f"'{one}' has images in train alone and '{other}' in val"):
        check_splits(*both)
    with pytest.raises(
        DataError, match=r"in train alone|cannot keep the class"
    ):  # not counted later
        prepare(f"folder:{tmp_path}", data_dir=str(tmp_path / "tfds"), workers=1)


def test_classes_that_are_called_nearly_the_same_are_named(tmp_path, caplog):
    names = ["Cat", "cat", "-1", "1", "\u0915\u093f", "\u0915\u093e"]  # the last differ in vowels
    check_splits(*splits(tmp_path, [f"{split}/{n}" for split in ("train", "val") for n in names]))
    assert "1 classes are called nearly as others, e.g. 'Cat' and 'cat'" in caplog.text


@pytest.mark.parametrize(
    "names, message",
    [
        (["train/a", "train/b", "val/c"], "no class has images in train as well as in val: a, b"),
        (["train/a", "val/a", "val/b"], "'a' alone of 2 classes has images in train"),
    ],
)
def test_what_cannot_be_learnt_is_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        check_splits(*splits(tmp_path, names))


def test_a_single_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="has a single class, 'cat': there is nothing to tell apa"):
        check_splits(*splits(tmp_path, ["train/cat", "val/cat"]))


def test_what_is_left_out_is_said_once(tmp_path, caplog):
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/notes.txt").write_text("")
    train, _ = splits(tmp_path, ["train/dog", "val/dog"])
    assert caplog.text.count(f"folder:{tmp_path}: left out: 1 no image (e.g. train/cat/notes.") == 1
    assert np.array_equal(train.source.class_counts(), [1])

"""The training images as an evaluation sees them."""

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.data.bank import bank_of, evenly


@pytest.fixture
def config(tmp_path):
    """Twelve photos of two classes, of unequal sides."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    config = base_config()
    config.data.update(name=f"folder:{tmp_path}", eval_split="val", image_size=16, train_size=8)
    return config


def images(split):
    (batch,) = split.eval_batches(np.arange(split.num_examples), split.num_examples)
    return batch


def test_they_have_the_crop_of_an_evaluation_and_their_own_names(config):
    config.data.update(folds=3, fold=1, policy="randaugment")
    train = open_split(config, train=True)
    bank = bank_of(train)
    assert bank.name == train.name == "train, all but fold 1 of 3"
    assert [bank.example_name(k) for k in range(8)] == [train.example_name(k) for k in range(8)]
    found = images(bank)
    assert found["image"].shape == (8, 16, 16, 3) and found["mask"].all()
    # The same photos, opened as an evaluation split.
    other = config.copy_and_resolve_references()
    other.data.update(folds=0, eval_split="train")
    whole = open_split(other, train=False)
    names = [whole.example_name(k) for k in range(12)]
    rows = [names.index(bank.example_name(k)) for k in range(8)]
    for name in ("image", "label"):
        np.testing.assert_array_equal(found[name], images(whole)[name][rows])


@pytest.mark.parametrize("same", [True, False])
def test_no_second_copy_is_kept_in_memory(config, same):
    config.data.update(cache=True, train_crop="resize", eval_crop="resize", train_size=0)
    if not same:
        config.data.eval_resize_method = "bicubic"
    train = open_split(config, train=True)
    decoded_later = bank_of(train)
    images(train)  # which fills the memory
    bank = bank_of(train)
    assert (bank.source is train.source) == same
    np.testing.assert_array_equal(images(bank)["image"], images(decoded_later)["image"])
    assert not hasattr(decoded_later.source, "arrays")
    assert (images(bank)["image"] == images(train)["image"]).all() == same


def test_some_are_chosen_evenly_and_the_same_each_time(config):
    train = open_split(config, train=True)
    bank = bank_of(train, 4)
    assert images(bank)["label"].tolist() == [0, 0, 1, 1]
    assert [bank.example_name(k) for k in range(4)] == [
        bank_of(train, 4).example_name(k) for k in range(4)
    ]
    assert bank_of(train, 100).num_examples == 12
    chosen = evenly(1_000_000, 1000, 3)
    assert (np.diff(chosen) > 0).all() and (chosen // 1000 == np.arange(1000)).all()
    assert (evenly(1_000_000, 1000, 4) != chosen).any()


def test_images_of_nothing_come_in_the_size_of_evaluation(config):
    config.data.update(name="fake", fake_train_examples=6, views=3)
    found = images(bank_of(open_split(config, train=True)))
    assert found["image"].shape == (6, 16, 16, 3)

import numpy as np
import pytest

from imagenet_jax.config import base_config
from imagenet_jax.data import open_split
from imagenet_jax.errors import ConfigError


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

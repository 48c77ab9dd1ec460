"""Folds of a cross-validation."""

import numpy as np
import pytest

from imagenet_jax.config import base_config, validate
from imagenet_jax.data import open_split
from imagenet_jax.errors import ConfigError


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

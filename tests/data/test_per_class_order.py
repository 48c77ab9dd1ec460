"""P classes a batch, K images each; and classes that are never trained on."""

import logging

import numpy as np
import pytest

from imagenet_jax.config import validate
from imagenet_jax.data import check_splits, open_split
from imagenet_jax.data.per_class_order import PerClassOrder
from imagenet_jax.data.sources.open_set import held_out_classes
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.training.checks import check_fields, check_training

# Of 13, 2, 8, 7 and 5 images.
CLASSES = [
    np.array(c)
    for c in (
        range(20, 33),
        [0, 3],
        range(40, 48),
        range(60, 67),
        [5, 9, 11, 15, 18],
    )
]
CLASS_OF = {int(example): k for k, mine in enumerate(CLASSES) for example in mine}


def order_of(rows=None, batch_size=8, per_class=4, **options):
    rows = np.arange(batch_size) if rows is None else rows
    how = {"by_class": CLASSES, "per_class": per_class} | options
    return PerClassOrder(seed=5, num_examples=35, batch_size=batch_size, rows=rows, **how)


def test_a_batch_has_so_many_images_of_each_of_its_classes():
    counts = np.zeros(5, int)
    for step in range(60):
        index, epoch, mask = order_of()(step)
        classes = np.array([CLASS_OF[i] for i in index.tolist()])
        assert mask.all() and {*np.bincount(classes)} <= {0, 4}
        counts[np.unique(classes)] += 1
        assert (classes[:2] != classes[1:3]).all()  # neighbours are of two classes
        for k in np.unique(classes):
            mine = [*zip(index[classes == k], epoch[classes == k], strict=True)]
            assert len({*mine}) == 4  # what comes twice is augmented otherwise
            if len(CLASSES[k]) >= 4:
                assert len({i for i, _ in mine}) == 4
    assert counts.sum() == 120 and counts.min() > 12  # of five classes 4 in a round, 2 at a time


def test_a_class_goes_through_its_images_before_they_come_again():
    order = order_of(batch_size=20)  # every class in every batch
    seen = {k: [] for k in range(5)}
    for step in range(12):
        rows = zip(*order(step)[:2], strict=True)
        for example, epoch in rows:
            seen[CLASS_OF[int(example)]].append((int(epoch), int(example)))
    for k, found in seen.items():
        assert len({*found}) == len(found)  # no augmentation comes twice
        passes = max(epoch for epoch, _ in found) + 1
        each = len(CLASSES[k]) // 4 * 4
        assert passes == (-(-48 // each) if each else 12 * 2)
    orders = [[e for epoch, e in seen[2] if epoch == number] for number in range(6)]
    assert all(sorted(one) == CLASSES[2].tolist() for one in orders)
    assert len({tuple(one) for one in orders}) > 3


def test_the_order_depends_on_seed_and_step_alone():
    steps = [order_of()(step).index.tolist() for step in (7, 0, 3)]
    assert steps == [order_of()(step).index.tolist() for step in (7, 0, 3)]
    assert (
        steps[0]
        != PerClassOrder(6, 35, 8, np.arange(8), by_class=CLASSES, per_class=4)(7).index.tolist()
    )
    for step in range(3):
        whole = order_of()(step)
        for rows in np.split(np.arange(8), 4):  # of four hosts
            for mine, of_all in zip(order_of(rows)(step), whole, strict=True):
                np.testing.assert_array_equal(mine, of_all[rows])
        later = order_of(offset=8 * 11)(step)  # after 11 steps' images of another batch size
        np.testing.assert_array_equal(later.index, order_of()(step + 11).index)


def test_the_order_is_that_of_earlier_versions():
    """Written down: otherwise a run that is resumed would see other images."""
    assert order_of()(3).index.tolist() == [3, 31, 0, 24, 0, 20, 3, 21]


def test_batches_of_a_split(loop_config, caplog):
    loop_config.data.update(per_class=5, fake_train_examples=43)
    loop_config.batch_size = 20
    split = open_split(loop_config, train=True)
    with caplog.at_level(logging.WARNING):
        (batch,) = split.train_batches(np.arange(20), 3, 4)
    assert sorted(np.unique(batch["label"], return_counts=True)[1]) == [5] * 4
    # Class k has the images k, k + 10, ...: three classes have five, the others four.
    assert "7 of 10 classes have fewer than data.per_class = 5 images" in caplog.text
    loop_config.batch_size = 60
    with pytest.raises(DataError, match=r"are 12 classes a batch, .* of 10; set batch_size to 50"):
        next(open_split(loop_config, train=True).train_batches(np.arange(60), 0, 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.per_class": 3}, r"batch_size = 16 is not .*per_class = 3 .* is 15"),
        ({"data.per_class": 16}, r"two classes or more; the nearest that is, is 32"),
        ({"data.per_class": 4, "data.sampling": "balanced"}, r"config\.data\.sampling = 'bal"),
        ({"data.per_class": 4, "data.repeats": 2}, r"config\.data\.repeats = 2; set one"),
        ({"data.held_out_classes": ("3",)}, "cannot tell classes that it was never trained on"),
    ],
)
def test_what_cannot_be_is_said_at_once(loop_config, fields, message):
    for name, value in fields.items():
        section, _, field = name.partition(".")
        loop_config[section][field] = value
    with pytest.raises(ConfigError, match=message):
        check_fields(loop_config)


def test_images_of_several_labels_have_no_class(loop_config):
    loop_config.task, loop_config.data.per_class = "multilabel", 4
    with pytest.raises(ConfigError, match=r"data\.per_class = 4 needs one label"):
        check_training(loop_config, here=False)


@pytest.mark.parametrize("value", [("",), ("a", "a"), (3,)])
def test_held_out_classes_are_names(loop_config, value):
    loop_config.data.held_out_classes = value
    with pytest.raises(ConfigError, match="names or ranges"):
        validate(loop_config)


def test_names_and_ranges_of_classes():
    names = ["ant", "bee", "1..2", "cat", "dog"]
    assert held_out_classes(("dog", "0..1"), names).tolist() == [0, 1, 4]
    assert held_out_classes(("1..2",), names).tolist() == [2]  # a name, before a range
    with pytest.raises(DataError, match=r"'bees', and there is no such class.*'bee'\?"):
        held_out_classes(("bees",), names)
    for wrong in ("3..5", "4..3", "2.."):
        with pytest.raises(DataError, match="numbers of 0 to 4"):
            held_out_classes((wrong,), names)
    with pytest.raises(DataError, match="are all 5 classes; leave some to train on"):
        held_out_classes(("0..4",), names)


def test_held_out_classes_are_evaluated_on_alone(loop_config):
    loop_config.task = "embedding"
    loop_config.data.held_out_classes = ("class 3", "7..9")
    train, evaluation = (open_split(loop_config, train=train) for train in (True, False))
    assert {*train.labels.tolist()} == {0, 1, 2, 4, 5, 6} and train.num_examples == 24
    assert {*evaluation.labels.tolist()} == {3, 7, 8, 9} and evaluation.num_examples == 12
    assert train.name == "train, all but the held-out classes"
    check_splits(train, evaluation, open_set=True)
    (batch,) = evaluation.eval_batches(np.arange(12), 12)
    assert batch["label"].tolist() == evaluation.labels.tolist()


def test_a_split_without_the_classes_is_refused(loop_config):
    loop_config.task, loop_config.data.fake_eval_examples = "embedding", 5
    loop_config.data.held_out_classes = ("7..9",)
    with pytest.raises(DataError, match="validation has no images of the classes that are held"):
        open_split(loop_config, train=False)

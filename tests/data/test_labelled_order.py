"""Which training images have labels, and batches with a fixed share of them."""

import logging

import numpy as np
import pytest
from PIL import Image

from imagenet_jax.data import open_split
from imagenet_jax.data.labelled_order import LabelledOrder, labelled_rows
from imagenet_jax.data.sources.labelled import HIDDEN
from imagenet_jax.data.split_parts import say_once
from imagenet_jax.errors import DataError

LABELLED, UNLABELLED = np.array([3, 4, 10, 17, 30]), np.setdiff1d(np.arange(37), [3, 4, 10, 17, 30])


def order_of(rows=None, batch_size=16, share=0.25, **options):
    rows = np.arange(batch_size) if rows is None else rows
    streams = {"labelled": LABELLED, "unlabelled": UNLABELLED, "labelled_share": share}
    return LabelledOrder(5, 37, batch_size, rows, **streams, **options)


def streams_of(order, steps):
    """What each stream gives in some steps: (epoch, example) in order."""
    found = [order(step) for step in steps]
    pairs = [pair for f in found for pair in zip(f.epoch.tolist(), f.index.tolist(), strict=True)]
    known = {*LABELLED.tolist()}
    return [p for p in pairs if p[1] in known], [p for p in pairs if p[1] not in known]


def test_each_batch_has_the_share_and_each_stream_its_own_epochs():
    for step in range(9):
        index, _, mask = order_of()(step)
        assert np.isin(index, LABELLED).sum() == 4 and mask.all()
    for stream, examples in zip(streams_of(order_of(), range(16)), (5, 32), strict=True):
        passes = len(stream) // examples
        assert passes >= 6 and len({*stream}) == len(stream)  # none is augmented the same twice
        orders = [stream[k * examples : (k + 1) * examples] for k in range(passes)]
        for number, one in enumerate(orders):
            assert {epoch for epoch, _ in one} == {number} and len({e for _, e in one}) == examples
        assert len({tuple(e for _, e in one) for one in orders}) > passes - 2


def test_the_order_depends_on_seed_and_step_alone_and_the_rows_of_hosts_join():
    for step in (7, 0, 3):
        whole = order_of()(step)
        for rows in np.split(np.arange(16), 4):
            for mine, of_all in zip(order_of(rows)(step), whole, strict=True):
                np.testing.assert_array_equal(mine, of_all[rows])
    streams = {"labelled": LABELLED, "unlabelled": UNLABELLED, "labelled_share": 0.25}
    other = LabelledOrder(6, 37, 16, np.arange(16), **streams)
    assert other(7).index.tolist() != order_of()(7).index.tolist()


def test_it_goes_on_with_another_batch_size_where_it_was():
    """Five steps of 16 images, then steps of 8: both streams give what larger batches would."""
    later = order_of(batch_size=8, offset=5 * 8)
    mixed = [
        [*first, *second]
        for first, second in zip(
            streams_of(order_of(), range(5)), streams_of(later, range(5, 11)), strict=True
        )
    ]
    assert tuple(mixed) == streams_of(order_of(), range(8))
    assert order_of(epoch_offset=9)(2).epoch.tolist() == [e + 9 for e in order_of()(2).epoch]


@pytest.mark.parametrize(("size", "count"), [(64, 8), (16, 4), (7, 3), (100, 31), (9, 8), (4, 1)])
def test_rows_with_labels_are_spread(size, count):
    rows = labelled_rows(size, count)
    assert len({*rows.tolist()}) == count and rows.min() >= 0 and rows.max() < size
    starts = np.arange(count + 1) * size // count
    assert (np.histogram(rows, starts)[0] == 1).all()  # one in each of `count` blocks


@pytest.mark.parametrize(("size", "count", "parts"), [(64, 8, 4), (512, 64, 16), (64, 32, 4)])
def test_each_micro_batch_has_its_share_of_labels(size, count, parts):
    """Which has every `parts`-th row."""
    found = np.bincount(labelled_rows(size, count) % parts, minlength=parts)
    assert found.tolist() == [count // parts] * parts


def test_the_order_is_that_of_earlier_versions():
    """Written down: otherwise a run that is resumed would see other images."""
    assert order_of(batch_size=8)(3).index.tolist() == [3, 27, 21, 7, 0, 4, 8, 14]


@pytest.fixture
def config(loop_config):
    """43 images of ten classes: three have five, the others four."""
    loop_config.data.fake_train_examples = 43
    return loop_config


def labels_of_batches(split, steps=6):
    batches = list(split.train_batches(np.arange(16), 0, steps))
    return (np.concatenate([b[name] for b in batches]) for name in ("index", "label"))


def test_the_chosen_images_are_balanced_and_follow_from_the_seed(config, caplog):
    say_once.cache_clear()
    config.data.labelled_per_class = 2
    with caplog.at_level(logging.WARNING):
        split = open_split(config, train=True)
    assert np.bincount(split.labels).tolist() == [2] * 10
    said = "fake: 20 of 43 images of train have their labels, 2 to 2 of each of 10 classes"
    assert said in caplog.text
    chosen = {*split.source.index.tolist()}
    assert {*open_split(config, train=True).source.index.tolist()} == chosen
    assert open_split(config, train=False).num_examples == 30  # evaluation has all
    config.data.labelled_per_class = 3
    assert {*open_split(config, train=True).source.index.tolist()} > chosen
    config.seed = 1
    assert not {*open_split(config, train=True).source.index.tolist()} > chosen
    config.data.update(labelled_per_class=0, labelled_fraction=0.5)
    assert open_split(config, train=True).num_examples == 7 * 2 + 3 * 3
    config.data.labelled_fraction = 1e-6
    assert np.bincount(open_split(config, train=True).labels).tolist() == [1] * 10
    config.data.update(labelled_fraction=1.0, labelled_per_class=5)
    with pytest.raises(DataError, match=r"= 5, and 'class 3' has 4 images in train; set it to 4"):
        open_split(config, train=True)


def test_batches_have_no_label_of_the_others(config):
    config.data.labelled_per_class = 2
    alone = {*open_split(config, train=True).source.index.tolist()}
    config.data.labelled_share = 0.25
    split = open_split(config, train=True)
    assert split.num_examples == 43
    index, label = labels_of_batches(split)
    known = np.isin(index, list(alone))
    assert (label[~known] == HIDDEN).all() and (label[known] == index[known] % 10).all()
    assert {*index.tolist()} == {*range(43)} and known.reshape(6, 16).sum(1).tolist() == [4] * 6
    config.data.update(labelled_per_class=0, labelled_fraction=0.99)
    with pytest.raises(DataError, match="none is left to be learnt from without"):
        open_split(config, train=True)


@pytest.fixture
def photos(tmp_path):
    """Six images of each of two classes."""
    for number in range(12):
        place = tmp_path / "photos/train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number,) * 3).save(place / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("cache", [False, True])
def test_files_and_a_list_of_names(config, photos, tmp_path, cache):
    config.data.update(name=f"folder:{photos}", eval_split="train", train_crop="none", cache=cache)
    config.data.update(labelled_list=f"{tmp_path}/list.txt", labelled_share=0.25)
    (tmp_path / "list.txt").write_text("a/0.png\n\n  3.png \na/10.png\n")
    split = open_split(config, train=True)
    index, label = labels_of_batches(split)
    names = [split.example_name(number) for number in range(12)]
    told = {names[i]: int(k) for i, k in zip(index, label, strict=True)}
    assert {n: k for n, k in told.items() if k != HIDDEN} == {
        "train/a/0.png": 0,
        "train/b/3.png": 1,
        "train/a/10.png": 0,
    }
    assert len(told) == 12
    (tmp_path / "list.txt").write_text("7\n0\n")  # numbers of images
    assert open_split(config, train=True).source.labelled.tolist() == [0, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/0.png\n", r"has no image of 1 classes of .*train, 'b'; name some of each"),
        ("a/00.png\n", r"has 'a/00\.png', and .*train has no such image.*a/0\.png"),
        ("12\n", "has '12', and"),
        ("\n", "names no image"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_list_that_cannot_be_is_refused(config, photos, tmp_path, text, message):
    config.data.update(name=f"folder:{photos}", eval_split="train", train_crop="none")
    config.data.labelled_list = f"{tmp_path}/list.txt"
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_split(config, train=True)


def test_a_name_of_two_images_needs_its_folder(config, photos, tmp_path):
    Image.new("RGB", (8, 8)).save(photos / "train/b/0.png")
    config.data.update(name=f"folder:{photos}", eval_split="train", train_crop="none")
    config.data.labelled_list = f"{tmp_path}/list.txt"
    (tmp_path / "list.txt").write_text("0.png\n1.png\n")
    with pytest.raises(DataError, match="2 images have that name, write their folders"):
        open_split(config, train=True)
    (tmp_path / "list.txt").write_text("b/0.png\na/0.png\n")
    assert open_split(config, train=True).num_examples == 2


def test_the_labelled_part_of_a_slice_is_none_of_the_rest(config, photos, caplog):
    """Numbers are those of the whole, by which what is in both splits would be seen."""
    config.data.update(name=f"folder:{photos}", train_split="train[:50%]", train_crop="none")
    whole = open_split(config, train=True)
    config.data.labelled_per_class = 1
    part = open_split(config, train=True)
    assert {*part.source.index.tolist()} < {*whole.source.index.tolist()}
    assert part.num_examples == 2


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_folder_of_images_without_labels(config, photos, share):
    """It is no class: neither its name nor its number is left."""
    for number in range(5):
        place = photos / "train/aa"  # between the classes
        place.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (0, 50 * number, 0)).save(place / f"{number}.png")
    config.data.update(name=f"folder:{photos}", eval_split="train", train_crop="none")
    config.data.update(unlabelled_class="aa", labelled_share=share)
    train, evaluation = (open_split(config, train=train) for train in (True, False))
    assert train.source.class_names == evaluation.source.class_names == ("a", "b")
    assert (train.num_examples, evaluation.num_examples) == (17 if share else 12, 12)
    index, label = labels_of_batches(train)
    told = {train.example_name(i): k for i, k in zip(index, label.tolist(), strict=True)}
    expected = {"train/a/2.png": 0, "train/b/3.png": 1, "train/aa/4.png": HIDDEN}
    expected = {k: v for k, v in expected.items() if share or v != HIDDEN}
    assert {name: told[name] for name in expected} == expected and len(told) == train.num_examples
    (batch,) = evaluation.eval_batches(np.arange(12), 12)
    assert batch["label"].tolist() == [0] * 6 + [1] * 6
    config.data.unlabelled_class = "ab"
    with pytest.raises(DataError, match=r"= 'ab': train has no images of such a class"):
        open_split(config, train=True)
    assert open_split(config, train=False).source.class_names == ("a", "aa", "b")

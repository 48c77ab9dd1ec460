"""FixMatch and Mean Teacher as tasks: the same numbers however they are spread, what they see of an
image, that no hidden label counts, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from test_step import EXHAUSTIVE, compiled, largest_difference

from imagenet_jax.config import from_json, to_json
from imagenet_jax.data import open_split
from imagenet_jax.data.sources.labelled import HIDDEN
from imagenet_jax.devices import parallel
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import make_task, task_split
from imagenet_jax.training.checks import check_fields, check_training
from imagenet_jax.training.step import micro_batches

pytestmark = pytest.mark.xdist_group("semi_supervised")


def set_task(config, task):
    config.task, config.batch_size, config.ema_decay = task, 16, 0.9
    config.data.update(labelled_per_class=1, labelled_share=0.25, fake_train_examples=60)
    config.semi.update(weight=2.0, threshold=0.2)
    config.model.head_std = 0.3  # logits differ from the beginning
    config.loss.label_smoothing = 0.0
    config.optim.learning_rate = 0.02
    if task == "fixmatch":
        config.data.update(views=2, policy="randaugment")
        config.augment.erase = 0.5
    else:
        config.semi.ramp_up = "4 steps"
    return config


@pytest.fixture(params=["fixmatch", "mean_teacher"])
def config(loop_config, request):
    return set_task(loop_config, request.param)


def summaries(config, *, devices=8, steps=6, change=lambda batch: batch):
    """What training says of each step, and the last state."""
    program, train_step = compiled(config, devices)
    mesh, state, found = program.mesh, program.init_state(), []
    rows = parallel.local_rows(mesh, config.batch_size)
    for batch in task_split(config, train=True).train_batches(rows, 0, steps):
        state, sums = train_step(state, parallel.put_batch(change(batch), mesh))
        means = program.task.summarize([jax.device_get(sums)])
        found.append([means[name] for name in program.task.train_metrics])
    return np.array(found), state


@functools.cache
def alone(config_json):
    return summaries(from_json(config_json), devices=1)


@pytest.mark.parametrize(
    "partitioner",
    [
        "shard_map",
        pytest.param("jit", marks=pytest.mark.slow),
        pytest.param("pmap", marks=EXHAUSTIVE),
    ],
)
def test_eight_devices_give_the_numbers_of_one(config, partitioner):
    one, one_state = alone(to_json(config))
    config.partitioner = partitioner
    spread, state = summaries(config)
    np.testing.assert_allclose(spread, one, atol=1e-4)
    assert largest_difference(one_state, state) < 1e-3
    assert (one[:, 2] > 0).all()  # there is something to be learnt without labels
    if config.task == "fixmatch":
        assert 0 < one[:, 3].mean() < 1


@pytest.mark.slow
def test_micro_batches_are_added_up(config):
    config.batch_size, config.model.bn_group_size = 32, 1
    if config.task == "fixmatch":
        config.model.bn_group_size = 2
    whole, _ = summaries(config, steps=3)
    config.accumulate = 2
    parts, _ = summaries(config, steps=3)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_micro_batches_have_their_share_of_labels(config):
    config.batch_size, config.data.labelled_share = 64, 0.125
    (batch,) = task_split(config, train=True).train_batches(np.arange(64), 0, 1)
    for count in (2, 4):
        labels = micro_batches({"label": batch["label"]}, count, 1)["label"]
        assert (np.asarray(labels) >= 0).sum(1).tolist() == [8 // count] * count


def test_the_loss_is_that_of_the_papers(config):
    """Of one step, from the network's outputs, in NumPy."""
    config.model.bn_group_size = 0
    split = task_split(config, train=True)
    task = make_task(config, split)
    (batch,) = split.train_batches(np.arange(16), 2, 3)
    batch["mask"][[5, 6]] = False  # of each kind one that cannot be read
    assert (batch["label"][[5, 6]] >= 0).tolist() == [True, False]
    rng = np.random.default_rng(0)
    student, other = rng.normal(0, 1, (2, 16, 10)).astype(np.float32)
    step = np.int32(2)
    inputs, known = task.inputs(batch, jax.random.key(0), step, train=True)
    if config.task == "fixmatch":
        views = np.stack([student, other], 1).reshape(32, 10)
        outcome = task.losses(lambda _: (views, {}), inputs, known)
    else:
        outcome = task.losses_beside(lambda _: other, lambda _: (student, {}), inputs, known)
    sums = task.sums(outcome, known, batch["mask"])
    found = task.summarize([jax.device_get(sums)])
    over = task.denominators(batch, None)
    total = sum(
        term.weight * np.where(batch["mask"], outcome.numerators[name], 0).sum() / over[term.over]
        for name, term in task.terms().items()
        if name in outcome.numerators
    )

    def softmax(logits):
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    mask, label, said = batch["mask"], batch["label"], softmax(student)
    with_label = np.flatnonzero(mask & (label >= 0))
    without = np.flatnonzero(mask & (label < 0))
    supervised = -np.log(said[with_label, label[with_label]]).mean()
    if config.task == "fixmatch":
        clear = said[without].max(1) >= 0.2
        pseudo = -np.log(softmax(other)[without, said[without].argmax(1)])
        consistency, weight = (pseudo * clear).mean(), 2.0
        np.testing.assert_allclose(found["mask_rate"], clear.mean(), rtol=1e-6)
    else:
        consistency = ((said - softmax(other)) ** 2)[mask].mean()
        weight = 2.0 * np.exp(-5 * (1 - 2 / 4) ** 2)
    np.testing.assert_allclose(total, supervised + weight * consistency, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], total, rtol=1e-5)
    right = (student[with_label].argmax(1) == label[with_label]).mean()
    np.testing.assert_allclose(found["top1"], right, rtol=1e-6)


def test_hidden_labels_do_not_count(config):
    """A batch never has them, and the step looks at no row's label that says it is hidden."""
    base = alone(to_json(config))[0][:2]

    def changed(batch):
        label = np.where(batch["label"] < 0, batch["label"] - batch["index"], batch["label"])
        return {**batch, "label": label.astype(np.int32)}

    other, _ = summaries(config, devices=1, steps=2, change=changed)
    np.testing.assert_array_equal(other, base)

    def shifted(batch):
        label = np.where(batch["label"] < 0, batch["label"], (batch["label"] + 1) % 10)
        return {**batch, "label": label.astype(np.int32)}

    assert np.abs(summaries(config, devices=1, steps=2, change=shifted)[0] - base).max() > 1e-3


def test_the_views_of_an_image(config):
    """They are moved apart; the weak one is mirrored and moved alone; both are functions of seed,
    epoch and index."""
    config.augment.update(pad=2, erase=1.0 if config.task == "fixmatch" else 0.0)
    split = task_split(config, train=True)
    task = make_task(config, split)
    (batch,) = split.train_batches(np.arange(16), 0, 1)
    see = functools.partial(task.inputs, key=jax.random.key(3), step=np.int32(0), train=True)
    see = jax.jit(see)
    views, _ = see(batch)
    assert views.shape == (16, 2, 8, 8, 3)
    part = {name: rows[5:9] for name, rows in batch.items()}
    np.testing.assert_array_equal(see(part)[0], views[5:9])
    image = batch["image"][:, :8]
    mean, std = (np.array(config.augment[name]) for name in ("mean", "std"))
    plain = (image / 255 - mean) / std
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0))) / 255
    padded = (padded - mean) / std
    for weak, border in zip(views[:, 0], padded, strict=True):
        windows = [border[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        windows += [window[:, ::-1] for window in windows]
        assert min(np.abs(weak - window).max() for window in windows) < 1e-4
    moved = [np.abs(one - two).max() for one, two in zip(views[:, 0], views[:, 1], strict=True)]
    assert np.median(moved) > 0.1
    assert np.abs(plain - views[:, 0]).max() > 0.1
    if config.task == "fixmatch":  # the strong one has a box of the mean colour, the weak one none
        grey = (np.abs(np.asarray(views)) < 1e-6).all(-1).sum((2, 3))
        assert (grey[:, 1] > 0).sum() > 12 and (grey[:, 0] == 0).all()
    text = task.seen(*see(batch))[1]
    assert len(text) == 32 and text.count("no label") == 24 and "class" in " ".join(text)


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("fixmatch", {"data.labelled_per_class": 0}, "nothing says which have some; set config"),
        ("fixmatch", {"data.labelled_share": 0.0}, "it is 0, set it to 0.125 as in FixMatch"),
        ("fixmatch", {"data.labelled_share": 0.1}, r"are 1\.6 rows, .* the nearest .* is 0\.125"),
        ("fixmatch", {"data.labelled_share": 0.01}, r"not a whole number of 1 to 15; .* 0\.0625"),
        ("fixmatch", {"data.labelled_list": "a.txt"}, r"labelled_per_class = 1 .*labelled_list"),
        ("fixmatch", {"data.sampling": "balanced"}, r"data\.sampling = 'balanced'; set that to ''"),
        ("fixmatch", {"data.repeats": 2}, r"data\.repeats = 2; set that to 1"),
        ("fixmatch", {"data.views": 1}, r"views = 1, .*takes 2 of each image.*set it to 2"),
        ("fixmatch", {"data.policy": ""}, "set it to 'randaugment'"),
        ("fixmatch", {"semi.ramp_up": "1 epochs"}, "is for config.task = 'mean_teacher'"),
        ("fixmatch", {"augment.mixup": 0.2}, r"does not go with config\.augment\.mixup"),
        ("fixmatch", {"loss.jsd": 12.0}, r"does not go with config\.loss\.jsd"),
        ("mean_teacher", {"distill.weights": "resnet50"}, r"config\.distill\.weights"),
        ("mean_teacher", {"finetune.mode": "lora"}, r"finetune\.mode = 'lora'"),
        (
            "mean_teacher",
            {"data.views": 2, "data.policy": "augmix"},
            "takes 1 of each .*set it to 1",
        ),
        ("mean_teacher", {"ema_decay": 0.0}, "config.ema_decay = 0 keeps none"),
        ("mean_teacher", {"semi.ramp_up": "never"}, "as in '5 epochs'"),
        ("classification", {}, "learns nothing from images without labels; set it to 0"),
        ("multilabel", {"data.labelled_share": 0.0}, "labelled_per_class = 1 needs one label"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(loop_config, task, fields, message):
    config = set_task(loop_config, task)
    if task not in ("fixmatch", "mean_teacher"):
        config.semi.ramp_up = ""
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        (config[section] if section else config)[field] = value
    with pytest.raises(ConfigError, match=message):
        check_fields(config)
        check_training(config, here=False)


def test_the_labelled_part_alone_is_the_baseline(loop_config):
    """A classifier learns from the same images that the others have the labels of."""
    config = set_task(loop_config, "mean_teacher")
    labelled = open_split(config, train=True).source.labelled
    config.task, config.data.labelled_share = "classification", 0.0
    check_fields(config)
    split = open_split(config, train=True)
    np.testing.assert_array_equal(split.source.index, labelled)
    (batch,) = split.train_batches(np.arange(16), 0, 1)
    assert HIDDEN not in batch["label"]

"""Several labels for each image: against torch, timm and scikit-learn."""

import csv
import json
import warnings

import jax
import numpy as np
import pytest
from oracles import torchvision
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

import launch
from imagenet_jax.augment import Targets
from imagenet_jax.config import base_config
from imagenet_jax.devices import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.reports.label_mistakes import LabelMistakes
from imagenet_jax.tasks import Multilabel, binary_cross_entropy, make_task, task_split
from imagenet_jax.tasks.average_precision import MeanAveragePrecision
from imagenet_jax.training import evaluate_split, make_program
from imagenet_jax.weights.adapt import adapt


@pytest.fixture
def config(loop_config):
    """`loop_config` of ten classes, of which each image has one or two."""
    loop_config.task = "multilabel"
    loop_config.data.fake_eval_examples = 37
    return loop_config


def random_logits_and_labels(count=8, classes=5):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    return logits, rng.integers(0, 2, (count, classes)).astype(np.uint8)


def loss_of(logits, targets, **fields):
    config = base_config()
    config.loss.label_smoothing = 0.0
    config.loss.update(fields)
    return Multilabel.of_size(config, logits.shape[1]).loss(logits, targets)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_torchs(reduction):
    torch = pytest.importorskip("torch")
    logits, labels = random_logits_and_labels()
    exact = torch.nn.BCEWithLogitsLoss(reduction="none")
    expected = getattr(exact(torch.tensor(logits), torch.tensor(labels).float()), reduction)(-1)
    found = loss_of(logits, Targets(labels), class_reduction=reduction)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
def test_the_loss_of_mixed_images_is_timms(threshold):
    torchvision()
    timm_loss = pytest.importorskip("timm.loss", reason="timm is not installed")
    torch = pytest.importorskip("torch")
    logits, labels = random_logits_and_labels()
    weight = np.repeat([0.1, 0.35, 0.5, 0.9], 2).astype(np.float32)
    targets = Targets.of_pairs(jax.numpy.asarray(labels), weight)
    soft = weight[:, None] * labels + (1 - weight[:, None]) * np.asarray(targets.other)
    theirs = timm_loss.BinaryCrossEntropy(
        smoothing=0, target_threshold=threshold or None, reduction="none"
    )
    expected = theirs(torch.tensor(logits), torch.tensor(soft)).mean(-1)
    np.testing.assert_allclose(
        loss_of(logits, targets, target_threshold=threshold), expected, rtol=1e-5
    )


def test_smoothing_moves_targets_towards_a_half():
    logits, labels = random_logits_and_labels()
    target = labels * 0.9 + 0.05
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(target * np.log(probability) + (1 - target) * np.log(1 - probability)).mean(1)
    np.testing.assert_allclose(
        loss_of(logits, Targets(labels), label_smoothing=0.1), expected, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("devices", "batch_size", "partitioner"),
    [(1, 37, "jit"), (8, 24, "jit"), (8, 8, "shard_map"), (8, 64, "pmap")],
)
def test_metrics_are_scikit_learns_whatever_the_batches(
    config, devices, batch_size, partitioner, tmp_path
):
    config.partitioner, config.eval.batch_size = partitioner, batch_size
    split = task_split(config, train=False)
    mesh = make_mesh("data_parallel", jax.devices()[:devices])
    program = make_program(make_task(config, split), mesh, num_examples=40)
    variables = program.init_state().eval_variables()
    eval_step = program.compile_eval_step(split.num_examples)
    meter = program.task.meter(split)
    found = evaluate_split(program, eval_step, variables, split, meter=meter)

    (batch,) = split.eval_batches(np.arange(37), 37)
    labels = batch["labels"]
    assert set(labels.sum(1)) == {1, 2}
    variables = jax.device_get(variables)
    inputs = program.task.image_inputs(batch["image"])
    logits = np.asarray(program.model.apply(variables, inputs, train=False))
    predicted = logits >= 0
    assert 0 < predicted.mean() < 1
    assert found == {
        "split": "validation",
        "num_examples": 37,
        "unreadable": 0,
        "loss": pytest.approx(np.mean(binary_cross_entropy(logits, labels, "mean")), rel=1e-5),
        "map": pytest.approx(average_precision_score(labels, logits, average="macro"), rel=1e-5),
        "classes_without_examples": 0,
        "micro_f1": pytest.approx(f1_score(labels, predicted, average="micro")),
        "macro_f1": pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0)),
    }
    report = program.task.report(meter, split, tmp_path / "new")
    assert report["files"] == ["per_class.csv", "most_wrong.png"]
    with Image.open(tmp_path / "new" / "most_wrong.png") as picture:
        assert min(picture.size) > 300
    precision, recall, _, images = precision_recall_fscore_support(
        labels, predicted, zero_division=0
    )
    shares = average_precision_score(labels, logits, average=None)
    with (tmp_path / "new" / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["average precision"]) for row in rows] == pytest.approx(shares, abs=1e-5)
    for name, expected in {"precision": precision, "recall": recall, "images": images}.items():
        assert [float(row[name] or 0) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["said of others"] for row in rows] == [
        str(count) for count in (predicted & (labels == 0)).sum(0)
    ]
    _, *rows = program.task.example_rows(meter, split)
    joined = [
        [";".join(f"class {k}" for k in np.flatnonzero(row)) for row in found]
        for found in (labels, predicted)
    ]
    assert [row[1:3] for row in rows] == [*zip(*joined, strict=True)]
    assert [row[4] for row in rows] == (labels == predicted).all(1).tolist()


def test_the_most_certain_mistakes_come_first():
    there = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], bool)
    share = np.array([[0.9, 0.1], [0.3, 0.6], [0.8, 0.9], [0.1, 0.2]])
    names = ["a", "b"]
    found = LabelMistakes(names, names, np.ones(2), np.arange(4), share, share >= 0.5, there)
    assert found.worst_images(9).tolist() == [3, 2, 1]  # missed by 0.9, said by 0.8, missed by 0.7
    assert found.worst_images(1).tolist() == [3]
    assert found.found.tolist() == [1, 1] and found.false.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "options", "path"),
    [
        ("lenet", {}, ("fc3",)),
        ("bit_r50x1", {"stage_sizes": ()}, ("head.fc",)),
        ("squeezenet1_1", {"squeezed": (1,)}, ("classifier.1",)),
    ],
)
def test_the_head_starts_at_a_bias(name, options, path):
    model = create_model(name, num_classes=3, head_bias=-4.6, **options)
    params = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), False)["params"]
    np.testing.assert_allclose(params[path[0]]["bias"], [-4.6] * 3)
    new = adapt({"params": params}, model, 32, new_head=True)["params"][path[0]]
    np.testing.assert_allclose(new["bias"], [-4.6] * 3)
    assert not new["kernel"].any()


def test_logits_that_cannot_be_negative_are_refused(config):
    config.model.name = "squeezenet1_1"
    with pytest.raises(ConfigError, match="squeezenet1_1' cannot say that a class is absent"):
        Multilabel.of_size(config, 3).model()


def test_what_no_image_has_is_left_out_of_the_mean_and_counted():
    meter = MeanAveragePrecision()
    scores, labels = random_logits_and_labels(20, 4)
    labels[:, 2] = 0
    scores[3, 0] = np.nan
    for part in (slice(5), slice(5, 20)):
        meter.add({"scores": scores[part], "labels": labels[part], "index": np.arange(20)[part]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = meter.metrics()
    scores[3, 0] = -100
    there = [0, 1, 3]
    expected = average_precision_score(labels[:, there], scores[:, there], average="macro")
    assert found == {"map": pytest.approx(expected), "classes_without_examples": 1}


def test_training_learns_and_photos_are_told(tmp_path, one_block, capsys):
    """Two of three colours lie side by side in each image."""
    rng, rows = np.random.default_rng(0), ["path,label,split"]
    colours = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
    for number in range(96):
        halves = rng.choice(list(colours), 2)
        image = np.repeat([[colours[half] for half in halves]], 8, 0).repeat(4, 1)
        noisy = (image + rng.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{';'.join(halves)},{'train' if number < 64 else 'val'}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    fields = {
        **{"task": "multilabel", "data.name": f"csv:{tmp_path}/list.csv", "data.eval_split": "val"},
        **{"data.image_size": 8, "data.train_crop": "none", "data.eval_crop": "none"},
        **{"model.name": "resnet8", "model.width": 8, "model.dtype": "float32"},
        **{"model.bn_group_size": 0, "batch_size": 16, "duration": "40 steps", "eval.every": ""},
        **{"log.tensorboard": False, "optim.learning_rate": 0.05, "loss.label_smoothing": 0.0},
    }
    flags = [f"--workdir={tmp_path}/run", f"--json={tmp_path}/out.json"]
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    assert launch.main(["train", *flags, *given]) == 0
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["task"] == "multilabel" and summary["eval"]["num_examples"] == 32
    assert summary["eval"]["map"] > 0.9
    assert f"mAP                {summary['eval']['map']:.2%}" in capsys.readouterr().out

    assert launch.main(["evaluate", *flags, f"--per_image={tmp_path}/images.csv"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["eval"] == summary["eval"]
    assert "class AP found said of others blue " in " ".join(capsys.readouterr().out.split())
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 33
    assert launch.main(["predict", str(tmp_path / "0.png"), *flags]) == 0
    (photo,) = json.loads((tmp_path / "out.json").read_text())["predictions"]
    likely = {found["class_name"] for found in photo["classes"] if found["probability"] >= 0.5}
    assert likely == set(rows[1].split(",")[1].split(";"))
    with Image.open(tmp_path / "run/predictions.png") as picture:
        assert picture.width > 300

"""What an evaluation leaves behind: tables and pictures of what goes wrong."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

import launch
from imagenet_jax import augment
from imagenet_jax.data import open_split
from imagenet_jax.hosts.lock import NAME, workdir_lock
from imagenet_jax.inference.evaluate import evaluate_run
from imagenet_jax.reports import mistakes
from imagenet_jax.reports.mistakes import Mistakes, mistake_lines, write_mistakes
from imagenet_jax.tasks.task import Task
from imagenet_jax.training.trained import trained_model

FILES = ["per_class.csv", "confusion.csv", "confusion.png", "most_wrong.png"]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("partitioner", ["jit", "shard_map"])
def test_tables_on_eight_devices_are_those_of_the_plain_model(
    loop_config, trained, tmp_path, partitioner
):
    workdir, table = trained(), tmp_path / "new" / "a.csv"
    loop_config.partitioner = partitioner
    found = evaluate_run(loop_config, workdir, which="latest", per_image=table)
    (batch,) = open_split(loop_config, train=False).eval_batches(np.arange(30), 30)
    model = trained_model(workdir, "latest")
    inputs = augment.eval_image({"image": batch["image"]}, loop_config.augment)
    logits = np.asarray(model.model.apply(model.variables, inputs, train=False), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label, predicted = batch["label"], logits.argmax(1)
    names = [f"class {k}" for k in range(10)]

    head, *rows = read_csv(workdir / "evaluation" / "confusion.csv")
    assert head[1:] == [row[0] for row in rows] == names
    expected = confusion_matrix(label, predicted, labels=range(10))
    assert np.array([row[1:] for row in rows], int).tolist() == expected.tolist()
    _, *rows = read_csv(workdir / "evaluation" / "per_class.csv")
    assert [int(row[2]) for row in rows] == expected.diagonal().tolist()
    assert sum(int(row[2]) for row in rows) == found["eval"]["correct_top1"]
    np.fill_diagonal(expected, 0)
    others = [names[row.argmax()] if row.any() else "" for row in expected]
    assert [row[4] for row in rows] == others

    head, *rows = read_csv(table)
    assert head == ["file", "label", "prediction", "probability", "correct"]
    assert [row[0] for row in rows] == [f"example {k}" for k in range(30)]
    assert [(row[1], row[2]) for row in rows] == [
        (names[k], names[p]) for k, p in zip(label, predicted, strict=True)
    ]
    assert [float(row[3]) for row in rows] == pytest.approx(shares.max(1), abs=1e-5)
    assert [row[4] == "1" for row in rows] == (label == predicted).tolist()

    assert found["report"]["files"] == FILES
    for name in FILES[2:]:
        with Image.open(workdir / "evaluation" / name) as picture:
            assert min(picture.size) > 300
    lines = mistake_lines(found["report"])
    assert len(lines) == 12 and f"{workdir}/evaluation: per_class.csv, conf" in lines[-1]


def test_a_result_needs_no_pictures(loop_config, trained, monkeypatch, capsys):
    workdir = trained()

    def full(*unused):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mistakes, "draw_confusion", full)
        found = evaluate_run(loop_config, workdir, which="latest")
    assert found["report"]["files"] == ["per_class.csv", "confusion.csv", "most_wrong.png"]
    assert "confusion.png cannot be made: [Errno 28] No space left" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(Task, "report", full)
        patch.setattr("imagenet_jax.tasks.Classification.report", full)
        found = evaluate_run(loop_config, workdir, which="latest", per_image=workdir)
    assert found["report"] == {} and found["eval"]["num_examples"] == 30
    assert "what goes wrong cannot be written to" in capsys.readouterr().err
    assert "cannot be written" in found["errors"][0]["error"]  # a folder: status 1, after the rest


def of(label, predicted, probability, classes):
    label, predicted = np.array(label, int), np.array(predicted, int)
    names = [f"class {k}" for k in range(classes)]
    probability = np.array(probability, np.float32)
    shares = (probability, 1 - probability)
    return Mistakes(
        names, names, np.arange(len(label)), label, predicted, label == predicted, *shares
    )


def pixels_of(index):
    return np.zeros((len(index), 4, 4, 3), np.uint8)


def write(found, folder):
    return write_mistakes(found, folder, "$x", str, pixels_of)


def test_nothing_is_written_beside_a_run_at_work(loop_config, trained, capsys):
    workdir = trained()

    def files():
        found = (path for path in workdir.rglob("*") if path.name != NAME)  # which the run touches
        return {path: path.stat().st_mtime_ns for path in found}

    with workdir_lock(workdir):
        before = files()
        found = evaluate_run(loop_config, workdir, which="latest")
        assert files() == before
    assert "report" not in found and found["eval"]["num_examples"] == 30
    assert f"{workdir} is in use by process" in capsys.readouterr().err
    assert "report" in evaluate_run(loop_config, workdir, which="latest")


def test_no_picture_of_an_earlier_evaluation_is_left(tmp_path):
    assert write(of([0, 1, 1], [0, 1, 0], [0.9, 0.9, 0.8], 2), tmp_path)["files"] == FILES
    assert write(of([0, 1, 1], [0, 1, 1], [0.9, 0.9, 0.8], 2), tmp_path)["files"] == FILES[:3]
    assert not (tmp_path / "most_wrong.png").exists()
    report = write(of([], [], [], 2), tmp_path)
    assert mistake_lines(report) == [] and report["num_classes"] == 0


def test_the_worst_come_first():
    label = np.repeat(np.arange(40), 4)
    predicted = label.copy()
    predicted[4:7], predicted[20], predicted[159] = 39, 6, 0
    probability = np.linspace(0.5, 1, 160)
    found = of(label, predicted, probability, 40)
    assert found.worst_images(3).tolist() == [159, 20, 6]
    assert found.most_confused(4).tolist() == [1, 5, 6, 39]
    assert found.most_confused(3).tolist() == [0, 1, 39]  # 0 for 39, where 5 for 6 has no room
    assert {1, 39, 5, 6, 0} <= set(found.most_confused(30)) and len(found.most_confused(30)) == 30
    assert found.confusion(np.array([1, 39])).tolist() == [[1, 3], [0, 3]]


def test_images_are_those_of_the_evaluation(loop_config):
    split = open_split(loop_config, train=False)
    (batch,) = split.eval_batches(np.arange(30), 30)
    index = np.array([17, 3, 3])
    assert (split.images(index) == batch["image"][index]).all()


def test_a_probe_has_no_table_of_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("imagenet_jax.verbs.evaluate.check_weights", lambda *unused: None)
    flags = ["--model=efficientnet_lite0", "--probe=train"]
    flags = [*flags, f"--per_image={tmp_path}/a.csv", f"--workdir={tmp_path}"]
    assert launch.main(["evaluate", *flags]) == 1
    assert "--per_image" in capsys.readouterr().err

"""Suites that are evaluated while a run trains."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from miniatures import pictures
from PIL import Image

import launch
from imagenet_jax.training.program import Program

ROOT = Path(__file__).parents[2]


def record(label, pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.getvalue()])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="module")
def flags(sets, tmp_path_factory):
    """Of a run on ImageNet's classes, of which there are a few images."""
    folder = tmp_path_factory.mktemp("records")
    for split, count in (("train", 16), ("validation", 8)):
        with tf.io.TFRecordWriter(f"{folder}/{split}-00000-of-00001") as writer:
            for k, pixels in enumerate(pictures(count, count)):
                writer.write(record(1 + 100 * (k % 8), pixels))
    return [
        *("--config=fake_data", "--config.model.name=lenet", "--config.model.dtype=float32"),
        *("--config.data.image_size=32", "--config.batch_size=16", "--config.eval.batch_size=128"),
        *("--config.data.train_crop=resize", "--config.data.eval_crop=resize"),
        *("--config.duration=1 steps", "--config.eval.every=1 steps"),
        *(f"--config.data.name=tfrecord:{folder}", f"--config.data.dir={sets}"),
    ]


def train(flags, workdir, *more):
    assert launch.main(["train", *flags, *more, f"--workdir={workdir}"]) == 0
    return json.loads((workdir / "summary.json").read_text())


def metrics(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "eval/top1" in line]


@pytest.mark.slow
def test_suites_are_evaluated_each_time(flags, tmp_path, capsys):
    summary = train(flags, tmp_path / "run", "--config.eval.suites=real")
    shown = capsys.readouterr()
    assert "suites   real: 30 images more at each evaluation" in shown.err
    assert "10 left out that have none of the classes" in shown.out
    (line,) = metrics(tmp_path / "run")
    for metric in ("top1", "top5"):
        assert line[f"real/{metric}"] == summary["suites"]["real"][metric]


@pytest.fixture
def compiled(monkeypatch):
    """The numbers of examples for which evaluation is compiled."""
    found, compile_eval_step = [], Program.compile_eval_step

    def counted(program, num_examples):
        found.append(num_examples)
        return compile_eval_step(program, num_examples)

    monkeypatch.setattr(Program, "compile_eval_step", counted)
    return found


@pytest.mark.slow
def test_suites_change_nothing_of_a_run(flags, tmp_path, compiled):
    flags = [*flags, "--config.duration=3 steps"]
    plain = train(flags, tmp_path / "plain")
    summary = train(flags, tmp_path / "run", "--config.eval.suites=a,real")
    assert compiled == [8, 8, 230]  # one program for all suites
    for name in ("state_sha256", "eval"):
        assert summary[name] == plain[name]
    assert "suites" in summary and "suites" not in plain
    for line, other in zip(metrics(tmp_path / "run"), metrics(tmp_path / "plain"), strict=True):
        assert {name: value for name, value in line.items() if name in other} == other
        assert line.keys() - other.keys() >= {"a/top1", "real/top1"}

    command = ["evaluate", f"--workdir={tmp_path}/run", "--suite=real", f"--json={tmp_path}/a.json"]
    assert launch.main(command) == 0
    found = json.loads((tmp_path / "a.json").read_text())["suites"]["real"]
    assert found.pop("loss") == pytest.approx(summary["suites"]["real"].pop("loss"), rel=1e-5)
    assert found == summary["suites"]["real"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "partitioner", ["jit", pytest.param("shard_map", marks=pytest.mark.exhaustive)]
)
def test_two_processes_count_what_one_does(classifier, sets, tmp_path, partitioner):
    command = [sys.executable, "launch.py", "evaluate", *classifier.flags]
    command += ["--suite=v2,a,real,objectnet", f"--config.data.dir={sets}"]
    command += [f"--config.partitioner={partitioner}"]
    found = []
    for launcher in ("local", "processes:2x2"):
        file = tmp_path / f"{launcher[:5]}.json"
        out = (f"--launcher={launcher}", f"--json={file}", f"--workdir={tmp_path}/work")
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
        done = subprocess.run([*command, *out], cwd=ROOT, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        found.append(json.loads(file.read_text())["suites"])
    for name, result in found[0].items():
        assert found[1][name].pop("loss") == pytest.approx(result.pop("loss"), rel=1e-5)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--config.eval.suites=a,v3", "no evaluation suite 'v3'"),
        ("--config.eval.suites=r=folder:/nowhere", "there is no folder /nowhere"),
        ("--config.data.name=fake", "this lenet has 10 classes, 'class 0'"),
    ],
)
def test_what_cannot_be_is_told_before_training(flags, tmp_path, capsys, more, message):
    given = ["--config.eval.suites=v2", "--config.data.fake_classes=10", more]
    assert launch.main(["train", *flags, *given, f"--workdir={tmp_path}/run"]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run/checkpoints").exists()

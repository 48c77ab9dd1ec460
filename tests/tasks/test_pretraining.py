"""A run without labels from end to end: what its features are worth, and what verbs do with it."""

import contextlib
import csv
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from pixel_mean import NAME, as_task
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import launch
from imagenet_jax import Predictor
from imagenet_jax.config import from_json
from imagenet_jax.data import open_split
from imagenet_jax.deploy import stablehlo
from imagenet_jax.deploy.folder import STABLEHLO
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks import collapse
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.evaluate import bank_for, evaluate_split
from imagenet_jax.training.program import make_program

pytestmark = pytest.mark.xdist_group("pretraining")
COLOURS = np.random.default_rng(1).integers(60, 200, (4, 3))
SMALL = {
    **{"task": NAME, "data.image_size": 8, "data.train_crop": "resize", "data.train_size": 6},
    **{"data.eval_crop": "resize", "data.eval_split": "val", "log.tensorboard": False},
    **{"model.name": "resnet8", "model.width": 8, "model.dtype": "float32", "batch_size": 16},
    **{"model.bn_group_size": 0, "schedule.warmup": "0 steps", "optim.learning_rate": 0.02},
    **{"duration": "8 steps", "log.every": "2 steps", "eval.every": "4 steps", "eval.knn": 7},
}


def flags_of(fields):
    return [f"--config.{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="module", autouse=True)
def _task():
    with as_task():
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise around a colour for each of four classes: not all of them are told right."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for number, colour in enumerate(COLOURS):
            place = folder / split / f"colour_{number}"
            place.mkdir(parents=True)
            for k in range(count):
                pixels = colour + rng.normal(0, 30, 3) + rng.normal(0, 30, (10, 10, 3))
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(place / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos, module_config, tmp_path_factory):
    """A working directory, and what was said; every spread is called a collapse."""
    workdir, said = tmp_path_factory.mktemp("run") / "run", io.StringIO()
    flags = [f"--workdir={workdir}", f"--config.data.name=folder:{photos}", *flags_of(SMALL)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(collapse, "COLLAPSED", 2.0)
        assert launch.main(["train", *flags, "--config.eval.linear_probe=True"]) == 0
    return workdir, said.getvalue()


@pytest.fixture
def command(run, tmp_path, one_block):
    """Runs a verb on the run; what it wrote as JSON."""

    def main(*arguments, status=0):
        told = tmp_path / "out.json"
        told.unlink(missing_ok=True)
        found = launch.main([*map(str, arguments), f"--workdir={run[0]}", f"--json={told}"])
        assert found == status
        return json.loads(told.read_text()) if told.exists() else None

    return main


@pytest.fixture
def features(run, photos, one_block):
    """Those of both splits by the public interface, and their labels."""
    predictor = Predictor.from_run(run[0])

    def of_split(split):
        files = sorted((photos / split).glob("*/*.png"))
        labels = [int(file.parent.name[-1]) for file in files]
        return predictor.features(list(map(str, files))), np.array(labels)

    return of_split("train"), of_split("val")


def expected_of(features):
    """The metrics by scikit-learn and NumPy."""
    (bank, known), (queries, labels) = features
    nearest = KNeighborsClassifier(
        7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(bank, known)
    scaler = StandardScaler().fit(bank)
    linear = LogisticRegression(C=0.01, max_iter=500).fit(scaler.transform(bank), known)
    direction = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    votes = np.take_along_axis(nearest.predict_proba(queries), labels[:, None], 1)
    return {
        "knn": (nearest.predict(queries) == labels).mean(),
        "knn_top5": (votes > 0).mean(),  # there are four classes
        "linear": (linear.predict(scaler.transform(queries)) == labels).mean(),
        "feature_std": pytest.approx(direction.std(0).mean() * queries.shape[1] ** 0.5, rel=1e-4),
    }


def test_features_are_judged_as_scikit_learn_does(run, features, command, capsys):
    summary = json.loads((run[0] / "summary.json").read_text())
    found, expected = summary["eval"], expected_of(features)
    assert {name: found[name] for name in expected} == expected
    assert 0.25 < found["knn"] < 1 and found["num_examples"] == 24 and "loss" not in found
    lines = list(map(json.loads, (run[0] / "metrics.jsonl").read_text().splitlines()))
    evaluated = [line for line in lines if "eval/knn" in line]
    assert [line["step"] for line in evaluated] == [4, 8]
    assert all(f"eval/{name}" in line for line in evaluated for name in expected)
    trained = [line["train/feature_std"] for line in lines if "train/feature_std" in line]
    assert len(trained) == 4 and all(0 < spread < 2 for spread in trained)
    assert command("evaluate")["eval"] == found
    shown = " ".join(capsys.readouterr().out.split())
    assert f"nearest neighbours {found['knn']:.2%}, among the first five" in shown
    assert f"linear probe {found['linear']:.2%} feature_std {found['feature_std']:.3f}" in shown
    probed = command("evaluate", "--probe=train")
    assert probed["linear_probe"] == {"num_examples": 24, "top1": found["linear"]}
    assert probed["features"] == features[0][0].shape[1]


def test_a_collapse_is_said_once_in_training_and_once_in_evaluation(run):
    warnings = [line for line in run[1].splitlines() if line.startswith("warning")]
    assert [line.rpartition(": feature_std = ")[0] for line in warnings] == [
        "warning: training, step 2",
        "warning: evaluation, step 4",
    ]
    assert "is below 2.0: the features of all images have nearly one direction" in warnings[0]


def test_fewer_neighbours_of_fewer_images(features, command, capsys):
    found = command("evaluate", "--config.eval.knn=0", "--config.eval.probe_examples=16")["eval"]
    assert "knn" not in found and found["linear"] > 0.25
    err = capsys.readouterr().err
    assert "features are compared with those of 16 of the 48 images of train" in err
    (bank, known), (queries, labels) = features
    found = command("evaluate", "--config.eval.knn=1", "--config.eval.linear_probe=False")["eval"]
    nearest = KNeighborsClassifier(1, metric="cosine").fit(bank, known)
    assert found["knn"] == found["knn_top5"] == (nearest.predict(queries) == labels).mean()


def test_eight_devices_find_what_one_does(run, photos, one_block):
    config = from_json((run[0] / "config.json").read_text())
    task = Predictor.from_run(run[0]).trained.task
    train, val = (open_split(config, train=train) for train in (True, False))
    found = []
    for devices, partitioner in ((1, "jit"), (8, "shard_map")):
        config.partitioner = partitioner
        program = make_program(
            type(task)(config, ()), make_mesh("data_parallel", jax.devices()[:devices])
        )
        step = program.compile_eval_step(val.num_examples)
        variables = program.init_state().eval_variables()
        bank = bank_for(program.task, train)
        found.append(evaluate_split(program, step, variables, val, bank=bank))
    one, eight = found
    spread = one.pop("feature_std")
    assert eight.pop("feature_std") == pytest.approx(spread, rel=1e-5)
    assert one == eight and one["knn"] > 0.25


def test_photos_are_compared_by_their_features(command, photos, features, tmp_path, capsys):
    files = [photos / f"val/colour_{k}/{n}.png" for k, n in ((0, 0), (0, 1), (1, 0))]
    told = command("predict", *files, f"--csv={tmp_path}/near.csv", f"--picture={tmp_path}/a.png")
    rows = np.array([photo["features"] for photo in told["predictions"]])
    np.testing.assert_allclose(rows, features[1][0][[0, 1, 6]], rtol=1e-4, atol=1e-5)
    direction = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(told["distances"], 1 - direction @ direction.T, atol=1e-5)
    with open(tmp_path / "near.csv") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert "cosine distances" in capsys.readouterr().out


def test_what_cannot_be_is_said(run, command, photos, capsys):
    photo = photos / "val/colour_0/0.png"
    for arguments, message in (
        (["explain", photo], "gives features, and what can be explained is a class"),
        (["evaluate", "--explain"], "gives features, and what can be explained is a class"),
        (["evaluate", "--per_image=x.csv"], "has no table of single images"),
    ):
        command(*arguments, status=1)
        assert message in capsys.readouterr().err
    config = from_json((run[0] / "config.json").read_text())
    config.eval.update(knn=0, linear_probe=False)
    for name, value in (("patience", 2), ("report", "best")):
        with pytest.raises(ConfigError, match=f"eval.{name} = .* chooses by a metric"):
            wrong = config.copy_and_resolve_references()
            wrong.eval[name] = value
            check_fields(wrong)
    config.task, config.eval.knn = "classification", 3
    with pytest.raises(ConfigError, match=r"eval\.knn = 3 is for tasks that"):
        check_fields(config)


def test_photos_without_classes_are_learnt_from(tmp_path, one_block):
    """All in one folder, with nothing that asks for labels."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (tmp_path / split / "all").mkdir(parents=True)
        for k in range(16):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"all/{k}.png")
    fields = SMALL | {"eval.knn": 0, "data.name": f"folder:{tmp_path}", "duration": "2 steps"}
    assert launch.main(["train", f"--workdir={tmp_path}/run", *flags_of(fields)]) == 0
    found = json.loads((tmp_path / "run/summary.json").read_text())["eval"]
    assert {*found} == {"split", "num_examples", "feature_std", "unreadable"}


@pytest.mark.slow
def test_an_exported_model_gives_features(run, command, photos, tmp_path):
    facts = command("export", f"--out={tmp_path}/out", "--platforms=cpu")
    assert facts["outputs"] == {"features": {"shape": [None, 8], "dtype": "float32"}}
    assert facts["class_names"] == []
    predictor, photo = Predictor.from_run(run[0]), str(photos / "val/colour_0/0.png")
    program = stablehlo.read_stablehlo((tmp_path / "out" / STABLEHLO).read_bytes())
    found = program(predictor.preprocess(photo))["features"]
    np.testing.assert_allclose(found, predictor.outputs(photo), atol=1e-4)


@pytest.mark.slow
def test_two_processes_find_what_one_does(photos, tmp_path):
    """A run of two, each with two devices, and an evaluation of it by one."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    script, workdir = Path(__file__).with_name("pixel_mean.py"), f"--workdir={tmp_path}/run"

    def start(*arguments, **environment):
        environment |= {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(Path(launch.__file__).parent)}
        command = [sys.executable, str(script), *arguments, workdir]
        return subprocess.Popen(command, env=os.environ | environment)

    fields = [f"--config.data.name=folder:{photos}", *flags_of(SMALL)]
    fields += ["--config.eval.linear_probe=True", "--config.partitioner=shard_map"]
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    job = [start("train", *fields, **together, JAX_PROCESS_ID=str(k)) for k in range(2)]
    assert [process.wait() for process in job] == [0, 0]
    assert start("evaluate", f"--json={tmp_path}/alone.json").wait() == 0
    together = json.loads((tmp_path / "run/summary.json").read_text())
    alone = json.loads((tmp_path / "alone.json").read_text())["eval"]
    assert together["num_processes"] == 2 and 0.25 < alone["knn"] < 1
    spread = pytest.approx(alone["feature_std"], rel=1e-5)
    assert together["eval"] == alone | {"feature_std": spread}

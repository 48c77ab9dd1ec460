"""Runs with few labels from end to end: what they leave is a classifier's."""

import json

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax import Predictor

pytestmark = [pytest.mark.xdist_group("semi_supervised_run"), pytest.mark.slow]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty images of each of three colours, more or less light."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 5)):
        for name, colour in (
            ("blue", (40, 60, 200)),
            ("green", (60, 180, 40)),
            ("red", (200, 50, 50)),
        ):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) * rng.uniform(0.4, 1.2) + rng.normal(0, 10, (8, 8, 3))
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                picture.save(folder / split / name / f"{number}.png")
    return folder


def fields_of(photos, task, **fields):
    fields = {
        **{"task": task, "data.name": f"folder:{photos}", "data.eval_split": "val"},
        **{"data.train_crop": "resize", "data.eval_crop": "resize", "data.image_size": 8},
        **{"data.cache": False, "schedule.warmup": "0 steps"},
        **{"data.labelled_per_class": 2, "data.labelled_share": 0.25, "ema_decay": 0.9},
        **{"model.name": "resnet8", "model.width": 8, "model.dtype": "float32"},
        **{"model.bn_group_size": 0, "batch_size": 16, "eval.every": "", "log.tensorboard": False},
        **{"loss.label_smoothing": 0.0, "optim.learning_rate": 0.05, "semi.threshold": 0.6},
        **({"data.views": 2, "data.policy": "randaugment"} if task == "fixmatch" else {}),
        **({"semi.ramp_up": "50 percent", "semi.weight": 5.0} if task == "mean_teacher" else {}),
        **fields,
    }
    return [f"--config.{name}={value}" for name, value in fields.items()]


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(photos, module_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    fields = {"duration": "30 steps", "log.every": "10 steps"}
    flags = fields_of(photos, "fixmatch", **fields)
    assert launch.main(["train", f"--workdir={workdir}", *flags]) == 0
    return workdir


def test_a_run_is_a_classifiers(run, photos, tmp_path, capsys):
    found = summary(run)
    assert found["task"] == "fixmatch" and found["eval"]["num_examples"] == 15
    assert found["eval"]["top1"] > 0.6 and "confusion.csv" in found["report"]["files"]
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    trained = [line for line in lines if "train/loss" in line]
    assert trained[-1]["train/top1"] > 0.8 and 0 < trained[-1]["train/mask_rate"] <= 1
    told, photo = tmp_path / "out.json", str(photos / "val/red/0.png")
    for arguments in (["evaluate"], ["predict", photo], ["explain", photo]):
        flags = [f"--workdir={run}", f"--json={told}"]
        assert launch.main([*arguments, *flags]) == 0
        if arguments == ["evaluate"]:
            assert json.loads(told.read_text())["eval"] == found["eval"]
    assert Predictor.from_run(run).class_names == ("blue", "green", "red")
    assert launch.main(["evaluate", f"--workdir={run}", "--probe=train", f"--json={told}"]) == 0
    probe = json.loads(told.read_text())
    assert [row["shots"] for row in probe["few_shot"]] == [1, 2]  # of images with labels alone


def test_a_run_is_exported_and_starts_others(run, photos, tmp_path):
    out = tmp_path / "out"
    assert launch.main(["export", f"--workdir={run}", f"--out={out}", "--platforms=cpu"]) == 0
    start = f"--config.finetune.weights={run}"
    before = Predictor.from_run(run).variables["params"]
    for task in ("classification", "mean_teacher"):
        fields = {"duration": "1 steps", "optim.learning_rate": 1e-4, "ema_ramp": "none"}
        if task == "classification":
            fields |= {"data.labelled_share": 0.0, "batch_size": 8}
        where = tmp_path / task
        assert (
            launch.main(["train", f"--workdir={where}", *fields_of(photos, task, **fields), start])
            == 0
        )
        after = Predictor.from_run(where).variables["params"]
        np.testing.assert_allclose(after["fc"]["kernel"], before["fc"]["kernel"], atol=0.01)
        assert summary(where)["eval"]["num_examples"] == 15


@pytest.mark.parametrize("task", ["fixmatch", "mean_teacher"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(photos, tmp_path, one_block, task):
    def train(name, duration):
        where = tmp_path / name
        fields = {"duration": duration, "schedule.name": "constant", "semi.ramp_up": ""}
        if task == "mean_teacher":
            fields["semi.ramp_up"] = "4 steps"
        flags = [f"--workdir={where}", *fields_of(photos, task, **fields)]
        assert launch.main(["train", *flags, "--allow_config_change=duration"]) == 0
        return summary(where)["state_sha256"]

    whole = train("whole", "8 steps")
    train("parts", "3 steps")
    assert train("parts", "8 steps") == whole

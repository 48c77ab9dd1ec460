"""A run of embeddings from end to end, on colours in place of people."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import launch
from imagenet_jax import Predictor
from imagenet_jax.deploy import stablehlo
from imagenet_jax.deploy.folder import STABLEHLO

pytestmark = pytest.mark.xdist_group("embedding_run")


def write_people(folder, splits):
    """Ten images of each person, as LFW has them."""
    rng = np.random.default_rng(0)
    colours = rng.permutation(np.stack(np.meshgrid(*[(40, 220)] * 3), -1).reshape(8, 3))
    for number, split in enumerate(splits):
        place = folder / split / f"person_{number}"
        place.mkdir(parents=True)
        for image in range(1, 11):
            pixels = colours[number] + rng.normal(0, 12, (8, 8, 3))
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            picture.save(place / f"person_{number}_{image:04d}.png")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Five that are trained on and three others that are evaluated on."""
    folder = tmp_path_factory.mktemp("people")
    write_people(folder, ["train"] * 5 + ["val"] * 3)
    return folder


def fields_of(people, **fields):
    fields = {
        **{"task": "embedding", "data.name": f"folder:{people}", "data.per_class": 4},
        **{"data.eval_split": "val", "data.eval_crop": "resize", "data.image_size": 8},
        **{"model.name": "resnet8", "model.width": 8, "model.dtype": "float32"},
        **{
            "schedule.warmup": "0 steps",
            "model.bn_group_size": 0,
            "batch_size": 16,
            "duration": "30 steps",
            "eval.every": "",
        },
        **{"log.tensorboard": False, "optim.learning_rate": 0.02, "embedding.size": 8},
        **fields,
    }
    return [f"--config.{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="module")
def run(people, module_config, tmp_path_factory):
    """A working directory with ArcFace's directions, and its summary with results by group."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    groups = workdir.parent / "groups.csv"
    groups.write_text("name,age\nperson_5,old\nperson_6,young\nperson_7,young\nperson_0,old\n")
    fields = {"embedding.loss": "arcface", "embedding.scale": 16, "log.every": "10 steps"}
    fields |= {"embedding.groups": groups, "embedding.group_far": 0.05}
    flags = [f"--workdir={workdir}", *fields_of(people, **fields)]
    assert launch.main(["train", *flags]) == 0
    return workdir


@pytest.fixture
def command(run, tmp_path, one_block):
    """Runs a verb on the run; what it wrote as JSON."""

    def main(*arguments, status=0):
        told = tmp_path / "out.json"
        found = launch.main([*map(str, arguments), f"--workdir={run}", f"--json={told}"])
        assert found == status
        return json.loads(told.read_text()) if told.exists() else None

    return main


@pytest.fixture
def photos(people):
    """Two of one person, and between them one of another."""
    return [
        str(people / f"val/person_{k}/person_{k}_{image:04d}.png")
        for k, image in ((5, 1), (6, 1), (5, 2))
    ]


def test_people_that_were_never_seen_are_told_apart(run, command, capsys):
    summary = json.loads((run / "summary.json").read_text())
    found = summary["eval"]
    assert (summary["task"], found["num_examples"], found["num_pairs"]) == ("embedding", 30, 260)
    assert found["accuracy"] > 0.9 and found["recall_at_1"] > 0.9 and "loss" not in found
    assert [*summary["report"]["files"][-2:]] == ["groups.csv", "roc.png"]
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    trained = [line for line in lines if "train/loss" in line]
    assert trained[-1]["train/loss"] < trained[0]["train/loss"]
    for line in trained:
        assert 0 <= line["train/same_distance"] < line["train/other_distance"] <= 2
    assert command("evaluate")["eval"] == found
    shown = " ".join(capsys.readouterr().out.split())
    assert f"verification {found['accuracy']:.2%} +- {found['accuracy_std']:.2%} of 260" in shown


def test_results_are_told_by_group(run, command, capsys):
    found = json.loads((run / "summary.json").read_text())["eval"]
    (old, young), about = found["groups"], found["grouping"]
    assert (old["group"], old["images"], old["other_pairs"], old["far"]) == ("old", 10, 0, None)
    assert (young["group"], young["images"]) == ("young", 20)
    assert old["pairs"] + young["pairs"] + about["pairs_between"] == found["num_pairs"]
    assert about["kind"] == "identities" and about["not_found"] == ["person_0"]
    assert command("evaluate")["eval"] == found
    shown = capsys.readouterr().out
    assert f"by age; false ones at the distance {about['threshold']:.4f}" in shown
    assert f"{young['accuracy']:.2%} ({young['right']} of {young['pairs']})" in shown
    table = run / "evaluation/groups.csv"
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["right"]) for row in rows] == [old["right"], young["right"]]
    assert (rows[0]["far"], float(rows[1]["far"])) == ("", pytest.approx(young["far"], abs=1e-6))
    groups = run.parent / "groups.csv"
    whole = groups.read_text()
    try:
        groups.write_text("name,age\nperson,old\n")
        command("evaluate", status=1)
        assert "names 1 images or identities, as 'person'," in capsys.readouterr().err
    finally:
        groups.write_text(whole)
    assert "groups" not in command("evaluate", "--config.embedding.groups=")["eval"]
    assert not table.exists()


def test_photos_are_compared(run, command, photos, people, tmp_path, capsys):
    missing, table = str(people / "nobody.png"), tmp_path / "distances.csv"
    told = command("predict", *photos, missing, f"--csv={table}", status=1)
    distances = np.array(told["distances"])
    embedding = np.array([photo["embedding"] for photo in told["predictions"]])
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(distances, 1 - embedding @ embedding.T, atol=1e-6)
    assert [near["path"] for near in told["predictions"][0]["nearest"]] == [photos[2], photos[1]]
    assert "nobody.png" in told["errors"][0]["path"]
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["nearest"] == photos[2]
    assert float(rows[0]["distance"]) == pytest.approx(distances[0, 2], abs=1e-6)
    assert float(rows[1][f"distance to {photos[0]}"]) == pytest.approx(distances[1, 0], abs=1e-6)
    assert rows[3]["error"] and not rows[3]["distance"]
    with Image.open(run / "predictions.png") as picture:
        assert picture.height > 300
    shown = capsys.readouterr().out
    assert "cosine distances, 0 for the same direction:" in shown and "0.000" in shown
    predictor = Predictor.from_run(run)
    assert predictor.class_names == ()
    np.testing.assert_allclose(predictor.outputs(photos), embedding, atol=1e-5)
    assert predictor.features(photos).shape == (3, 8)


def test_verify_says_same_or_not(command, photos, capsys):
    same = command("verify", photos[0], photos[2], "--far=0.05")
    assert same["same"] and 0 < same["distance"] <= same["threshold"]
    assert same["far"] <= 0.05 and same["different_pairs"] == 130 and same["tar"] > 0.5
    assert ": the same\n  cosine distance" in capsys.readouterr().out
    other = command("verify", *photos[:2], "--far=0.05")
    assert not other["same"] and other["distance"] > other["threshold"] == same["threshold"]
    assert ": not the same\n" in capsys.readouterr().out


def test_photos_are_aligned_by_their_points(command, photos, tmp_path, capsys):
    """Of the template turned by a right angle: the network sees the photo turned back."""
    eyes_nose_mouth = np.array([(0.3, 0.5), (0.7, 0.5), (0.5, 0.6), (0.4, 0.8), (0.6, 0.8)]) * 8
    points = np.stack([7 - eyes_nose_mouth[:, 1], eyes_nose_mouth[:, 0]], 1).ravel()
    parts = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    file = tmp_path / "points.csv"
    lines = ["name," + ",".join(f"{part}_{axis}" for part in parts for axis in "xy")]
    lines += [f"person_5_000{n}.png," + ",".join(map(str, points)) for n in (1, 2)]
    file.write_text("\n".join(lines))
    flags = ["--config.data.eval_crop=align", f"--config.data.landmarks={file}"]
    found = command("verify", photos[0], photos[2], *flags, "--far=0.05")
    assert found["distance"] != command("verify", photos[0], photos[2], "--far=0.05")["distance"]
    told = command("predict", *photos, *flags, status=1)
    assert [photo["path"] for photo in told["predictions"]] == [photos[0], photos[2]]
    assert told["distances"][0][1] == pytest.approx(found["distance"], abs=1e-6)
    assert "has no points of it" in told["errors"][0]["error"]
    command("evaluate", *flags, status=1)
    assert "has points of none of the 30 images of val" in capsys.readouterr().err
    command("serve", *flags, status=1)
    assert "photos that are sent have none" in capsys.readouterr().err
    command("verify", *photos[:2], "--config.data.eval_crop=align", status=1)
    assert "'align' needs config.data.landmarks, which is ''" in capsys.readouterr().err


def test_what_cannot_be_is_said(run, command, photos, people, finished_run, tmp_path, capsys):
    missing = people / "nobody.png"
    for arguments, message in (
        (["verify", *photos[:2]], "--far=0.001 is less than one of the 130 pairs"),
        (["verify", photos[0], missing, "--far=0.1"], "nobody.png cannot be read"),
        (["explain", photos[0]], "what can be explained is a class, a segment or a box"),
        (["evaluate", "--explain"], "what can be explained is a class"),
        (["predict", photos[0], f"--maps={tmp_path}"], "tells no classes of pixels"),
    ):
        command(*arguments, status=1)
        assert message in capsys.readouterr().err
    thresholds = run / "evaluation/thresholds.json"
    whole = thresholds.read_text()
    try:
        thresholds.write_text("{}")
        command("verify", *photos[:2], status=1)
        assert "thresholds.json cannot be read: 'far'; `evaluate" in capsys.readouterr().err
        thresholds.unlink()
        command("verify", *photos[:2], status=1)
        assert "is what an evaluation leaves behind" in capsys.readouterr().err
    finally:
        thresholds.write_text(whole)
    assert launch.main(["verify", *photos[:2], f"--workdir={finished_run}"]) == 1
    assert "is a run with config.task = 'classification'" in capsys.readouterr().err


def test_an_exported_model_gives_embeddings(run, command, photos, tmp_path):
    out = tmp_path / "out"
    facts = command("export", f"--out={out}", "--platforms=cpu")
    assert facts["outputs"] == {"embedding": {"shape": [None, 8], "dtype": "float32"}}
    assert facts["class_names"] == []
    predictor = Predictor.from_run(run)
    program = stablehlo.read_stablehlo((out / STABLEHLO).read_bytes())
    found = program(predictor.preprocess(photos))["embedding"]
    np.testing.assert_allclose(found, predictor.outputs(photos), atol=1e-5)


@pytest.mark.slow
def test_other_people_and_pairs_of_a_list(run, command, tmp_path, capsys):
    """A run is evaluated on any data set: it need not have the people that it was trained on."""
    write_people(tmp_path, ["val"] * 6)
    lines = ["10\t3"]
    for fold in range(10):
        one, two = fold % 6, (fold + 1) % 6
        lines += [f"person_{one}\t{k - 4}\t{k}" for k in (5, 6, 7)]
        lines += [f"person_{one}\t{k - 4}\tperson_{two}\t{k}" for k in (5, 6, 7)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    fields = [
        f"--config.data.name=folder:{tmp_path}",
        f"--config.embedding.pairs={tmp_path}/pairs.txt",
    ]
    found = command("evaluate", *fields)["eval"]
    assert (found["num_examples"], found["num_pairs"], found["pairs_left_out"]) == (60, 60, 0)
    assert found["accuracy"] > 0.7
    (tmp_path / "val/person_0/person_0_0001.png").unlink()
    command("evaluate", *fields, status=1)
    assert "names 1 images that val does not have" in capsys.readouterr().err
    (tmp_path / "val/person_0/person_0_0001.png").write_text("no image")
    skipped = command("evaluate", *fields, "--config.data.bad_images=skip")["eval"]
    assert skipped["unreadable"] == 1 and skipped["pairs_left_out"] >= 2


@pytest.mark.slow
def test_a_run_starts_other_ones(run, people, tmp_path, one_block):
    """One of the same people has all of its weights, a classifier those of the backbone."""
    start = f"--config.finetune.weights={run}"
    one_step = {"duration": "1 steps", "optim.learning_rate": 1e-4}
    same, classes = tmp_path / "same", tmp_path / "classes"
    flags = [f"--workdir={same}", start, "--config.embedding.loss=arcface"]
    assert launch.main(["train", *fields_of(people, **one_step), *flags]) == 0
    fields = fields_of(people, **one_step, **{"data.per_class": 0, "task": "classification"})
    flags = [f"--workdir={classes}", start, "--config.data.eval_split=train"]
    assert launch.main(["train", *fields, *flags]) == 0
    before, same, classes = (
        Predictor.from_run(where).variables["params"] for where in (run, same, classes)
    )
    assert {*before} - {*classes} == {"class_weights", "embedding_norm"} and {*before} == {*same}
    for name in before:
        if "kernel" in before[name]:
            one, two = before[name]["kernel"], same[name]["kernel"]
            np.testing.assert_allclose(two, one, atol=0.01)
    np.testing.assert_allclose(classes["conv1"]["kernel"], before["conv1"]["kernel"], atol=0.01)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_same_bits(people, tmp_path, one_block):
    def train(name, duration):
        where = tmp_path / name
        flags = [f"--workdir={where}", *fields_of(people, duration=duration)]
        flags += ["--config.schedule.warmup=0 steps", "--config.schedule.name=constant"]
        assert launch.main(["train", *flags, "--allow_config_change=duration"]) == 0
        return json.loads((where / "summary.json").read_text())

    whole = train("whole", "8 steps")
    train("parts", "3 steps")
    assert train("parts", "8 steps")["state_sha256"] == whole["state_sha256"]

"""Averages of trained weights, by the command line, against NumPy."""

import json
import shutil

import jax
import numpy as np
import pytest

import launch
from imagenet_jax.data import open_split
from imagenet_jax.devices import make_mesh
from imagenet_jax.errors import CheckpointError, WeightsError
from imagenet_jax.inference.average import average_weights, chosen_steps, write_average
from imagenet_jax.inference.predictor import Predictor
from imagenet_jax.reports.workdir import saved_config
from imagenet_jax.tasks.table import make_task
from imagenet_jax.training.checkpoint import Checkpoints
from imagenet_jax.training.finetune import starting_variables
from imagenet_jax.training.program import make_program
from imagenet_jax.training.trained import trained_from_file, trained_model
from imagenet_jax.weights.files import read_weights, write_safetensors


def program_of(config):
    task = make_task(config, open_split(config, train=True))
    return make_program(task, make_mesh(), num_examples=40)


def trained_variables(run, step):
    return jax.device_get(trained_model(run, str(step)).variables)


def test_the_average_of_checkpoints_is_written_evaluated_and_averaged_again(
    finished_run, loop_config, tmp_path, capsys
):
    file, again = tmp_path / "mean.safetensors", tmp_path / "again.safetensors"
    run = f"--workdir={finished_run}"
    assert launch.main(["average", run, "--checkpoints=last:2", f"--output={file}"]) == 0
    assert f"evaluate {run} --weights={file}" in capsys.readouterr().out
    parts = [trained_variables(finished_run, step) for step in (15, 20)]
    expected = jax.tree.map(lambda one, other: (one + other) / 2, *parts)
    config = saved_config(finished_run)
    found = trained_from_file(finished_run, file, config)
    jax.tree.map(
        lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-6), *(found.variables, expected)
    )
    assert read_weights(file).class_names == found.task.class_names

    others = {"class_names": json.dumps(found.task.class_names[::-1])}
    write_safetensors(tmp_path / "others.safetensors", expected, others)
    with pytest.raises(WeightsError, match="other classes than the run's"):
        trained_from_file(finished_run, tmp_path / "others.safetensors", config)

    copy = shutil.copytree(finished_run, tmp_path / "copy")  # whose evaluation is written there
    arguments = [f"--workdir={copy}", f"--weights={file}", f"--json={tmp_path}/found.json"]
    assert launch.main(["evaluate", *arguments]) == 0
    result = json.loads((tmp_path / "found.json").read_text())
    assert result["eval"]["loss"] == pytest.approx(Predictor(found).evaluate()["eval"]["loss"])

    # Its model has another width and stem than the plain one.
    loop_config.finetune.weights = str(file)
    started = program_of(loop_config).init_state(starting_variables(program_of(loop_config)))
    jax.tree.map(np.testing.assert_array_equal, dict(started.params), found.variables["params"])

    assert launch.main(["average", str(file), str(finished_run), f"--output={again}"]) == 0
    expected = jax.tree.map(lambda one, other: (one + other) / 2, expected, parts[1])
    found = trained_from_file(finished_run, again, config).variables
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-5), found, expected)


def test_statistics_are_estimated_for_an_average(finished_run, loop_config):
    """Of parameters that are the same, so that the means of any two batches are near to them."""
    config = saved_config(finished_run)
    sources = [finished_run, finished_run]
    plain, _ = average_weights(config, sources, finished_run, "")
    config.eval.norm_batches = 2
    estimated, facts = average_weights(config, sources, finished_run, "")
    assert len(facts["averaged"]) == 2 and facts["norm_batches"] == 2
    jax.tree.map(np.testing.assert_array_equal, estimated["params"], plain["params"])
    before, after = (np.concatenate(jax.tree.leaves(v["batch_stats"])) for v in (plain, estimated))
    assert 0 < np.abs(before - after).max() < 0.5 * np.abs(before).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoints=best:9"], "of them, and the checkpoints of the steps"),
        (["--checkpoints=15,16"], "no checkpoint '16' in"),
        (["--checkpoints=first:2"], "expected last:N, best:N, improved:N or steps"),
        ([], "is all that there is to average"),
        (["--output=mean.pth"], "ends with .safetensors"),
    ],
)
def test_what_cannot_be_averaged_is_refused(finished_run, loop_config, arguments, message, capsys):
    argv = ["average", f"--workdir={finished_run}", "--output=mean.safetensors", *arguments]
    assert launch.main(argv) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.bn_epsilon": 0.01}, "config.model.bn_epsilon is 0.01, expected 0.0"),
        ({"augment.mean": (0.5, 0.5, 0.5)}, r"config.augment.mean is \(0.5"),
        ({}, "its outputs are other classes"),
    ],
)
def test_weights_that_mean_something_else_are_refused(
    finished_run, trained, tmp_path, change, message
):
    other = trained()
    for file in other.glob("checkpoints/*/record/metadata"):
        record = json.loads(file.read_text())
        record["data"]["class_names"][0] = "another"
        for name, value in change.items():
            section, field = name.split(".")
            record["config"][section][field] = value
        file.write_text(json.dumps(record))
    config, file = saved_config(finished_run), tmp_path / "first.safetensors"
    with pytest.raises((CheckpointError, WeightsError), match=message):
        average_weights(config, [finished_run, other], finished_run, "")
    write_average(file, *average_weights(config, [finished_run] * 2, finished_run, ""))
    with pytest.raises((CheckpointError, WeightsError), match=message):  # the file does not say
        average_weights(config, [file, finished_run, other], finished_run, "")


def test_a_run_is_read_whatever_devices_it_had(trained):
    other = trained()
    for file in other.glob("checkpoints/*/record/metadata"):
        record = json.loads(file.read_text())
        record["config"]["sharding"] = "fsdp=16"
        file.write_text(json.dumps(record))
    assert trained_model(other, "latest").variables["params"]


def test_checkpoints_are_chosen_by_their_scores(tmp_path):
    for step, score in {1: 0.7, 2: 0.75, 3: 0.74, 4: 0.76, 10: 0.71, 12: None}.items():
        (tmp_path / str(step)).mkdir()
        if score:
            (tmp_path / str(step) / "metrics").mkdir()
            (tmp_path / str(step) / "metrics/metrics").write_text(json.dumps({"score": score}))
    assert chosen_steps(tmp_path, "last:2") == [10, 12]
    assert chosen_steps(tmp_path, "best:3") == [2, 3, 4]
    assert chosen_steps(tmp_path, "improved:3") == [1, 2, 4]
    assert chosen_steps(tmp_path, "2,12") == [2, 12]
    with pytest.raises(CheckpointError, match=r"improved:4: .* has 3 of them"):
        chosen_steps(tmp_path, "improved:4")


@pytest.mark.parametrize("asked", [False, True])
def test_statistics_that_a_run_never_estimated_are_not_taken(
    finished_run, loop_config, asked, monkeypatch
):
    """Of a run that asked for estimates; one that did not has averages of them."""
    config, found = saved_config(finished_run), Checkpoints.record

    def record(self, *args):
        one = found(self, *args)
        one["config"]["eval"]["norm_batches"] = 2 * asked
        return one

    config.eval.norm_batches = 2
    monkeypatch.setattr(Checkpoints, "record", record)
    restored = Checkpoints.restore
    monkeypatch.setattr(
        Checkpoints,
        "restore",
        lambda self, *args, **options: (restored(self, *args, **options)[0], record(self)),
    )
    if not asked:
        assert trained_model(finished_run, "latest", config).variables
        return
    with pytest.raises(CheckpointError, match="never estimated for the average"):
        trained_model(finished_run, "latest", config)

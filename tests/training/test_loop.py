import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from imagenet_jax.config import from_json
from imagenet_jax.data import catalog
from imagenet_jax.errors import CheckpointError, ConfigError, DataError, DivergenceError, UserError
from imagenet_jax.reports.tracking import clu_tracking
from imagenet_jax.training import feed
from imagenet_jax.training.loop import train

ROOT = Path(__file__).parents[2]
SUMMARY_KEYS = {
    "model",
    "dataset",
    "step",
    "trained_steps",
    "epochs",
    "wall_seconds",
    "images_per_second",
    "input_wait_fraction",
    "compile_seconds",
    "first_step_seconds",
    "device_kind",
    "num_devices",
    "num_processes",
    "state_sha256",
    "eval",
}


def read_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class StopAt:
    """Tracking whose hook does something at a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def __call__(self, config, workdir, start, total):
        class NoWriter:
            def write_scalars(self, step, scalars): ...
            def flush(self): ...
            def close(self): ...

        return NoWriter(), [lambda step: self.action() if step == self.step else None]


def test_a_run_leaves_everything_in_its_workdir(finished_run, loop_config):
    summary = json.loads((finished_run / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["step"] == 20
    assert summary["epochs"] == 20 * 16 / 40
    assert summary["num_devices"] == 8
    assert summary["eval"]["num_examples"] == 30
    assert 0 <= summary["input_wait_fraction"] <= 1
    assert from_json((finished_run / "config.json").read_text()) == loop_config
    assert (finished_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = read_lines(finished_run)
    assert [line["step"] for line in lines if "train/loss" in line] == [5, 10, 15, 20]
    assert [line["step"] for line in lines if "eval/top1" in line] == [10, 20]
    leftovers = [path.name for path in finished_run.iterdir() if "partial" in path.name]
    assert leftovers == []


def test_finished_run_started_again_only_evaluates(loop_config, trained):
    workdir = trained()
    first = json.loads((workdir / "summary.json").read_text())
    before = (workdir / "metrics.jsonl").read_text()
    again = train(loop_config, workdir)
    assert json.loads((workdir / "summary.json").read_text()) == again
    assert again["eval"] == first["eval"]
    assert again["state_sha256"] == first["state_sha256"]
    assert again["images_per_second"] == pytest.approx(first["images_per_second"], rel=0.2)
    assert (workdir / "metrics.jsonl").read_text() == before


def test_interrupted_run_ends_with_the_bits_of_an_undisturbed_one(
    loop_config, finished_run, tmp_path, capsys
):
    """SIGTERM and Ctrl-C, at steps without a scheduled checkpoint; no other run gets between."""

    def interrupt(number):
        with pytest.raises(UserError, match=rf"in use by process {os.getpid()} on "):
            train(loop_config, tmp_path)
        os.kill(os.getpid(), number)

    whole = json.loads((finished_run / "summary.json").read_text())
    for step, number in ((7, signal.SIGTERM), (13, signal.SIGINT)):
        stop = StopAt(step, lambda number=number: interrupt(number))
        assert train(loop_config, tmp_path, tracking=[stop]) is None
        assert "the same command line continues" in capsys.readouterr().out
        assert (tmp_path / "checkpoints" / str(step)).is_dir()
        assert not (tmp_path / "summary.json").exists()
    resumed = train(loop_config, tmp_path)
    assert resumed["state_sha256"] == whole["state_sha256"]
    assert resumed["eval"] == whole["eval"]
    steps = [line["step"] for line in read_lines(tmp_path) if "train/loss" in line]
    assert steps == [5, 7, 10, 13, 15, 20]
    assert not list(tmp_path.glob("*.lock"))


def test_evaluations_that_signals_prevent_are_done_on_resume(loop_config, tmp_path, monkeypatch):
    """At the step of one, between the batches of another, and of the last; the best is the same."""
    loop_config.duration, loop_config.eval.every = "6 steps", "2 steps"
    loop_config.eval.report, loop_config.optim.learning_rate = "best", 1e-4
    whole = train(loop_config, tmp_path / "whole")
    original, evaluations, workdir = catalog.Split.eval_batches, [], tmp_path / "run"

    def kill():
        os.kill(os.getpid(), signal.SIGTERM)

    def eval_batches(self, rows, batch_size):
        evaluations.append(batch_size)
        for number, batch in enumerate(original(self, rows, batch_size)):
            if number and len(evaluations) in (2, 4):
                kill()
            yield batch

    monkeypatch.setattr(catalog.Split, "eval_batches", eval_batches)
    for step in (2, 4, 6):
        assert train(loop_config, workdir, tracking=[StopAt(2, kill)]) is None
        assert (workdir / "checkpoints" / str(step)).is_dir()
        done = [line["step"] for line in read_lines(workdir) if "eval/top1" in line]
        assert done == [*range(2, step, 2)]
    found = train(loop_config, workdir)
    for name in ("step", "trained_steps", "state_sha256", "eval"):
        assert found[name] == whole[name]
    lines = [
        [line for line in read_lines(tmp_path / name) if "eval/top1" in line]
        for name in ("whole", "run")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 3


def test_another_batch_size_goes_on_with_the_examples_not_yet_seen(
    loop_config, tmp_path, monkeypatch
):
    """Twice another one: each example comes once an epoch, and the rates go on over the rest."""
    original, read = catalog.Split.train_batches, []

    def train_batches(self, *arguments):
        read.append([])
        for batch in original(self, *arguments):
            read[-1] += [zip(batch["epoch"].tolist(), batch["index"].tolist(), strict=True)]
            yield batch

    monkeypatch.setattr(catalog.Split, "train_batches", train_batches)
    loop_config.eval.every, loop_config.log.every = "", "1 steps"
    loop_config.data.fake_train_examples, loop_config.duration = 44, "4 epochs"
    seen = []
    for size, steps, stop in ((16, 3, 3), (32, 2, 5), (16, 4, 9)):
        loop_config.batch_size = size
        hooks = [StopAt(stop, lambda: os.kill(os.getpid(), signal.SIGTERM))] if stop < 9 else []
        summary = train(loop_config, tmp_path, tracking=hooks, allow_config_change=["batch_size"])
        seen += [pair for batch in read[-1][:steps] for pair in batch]
    assert sorted(seen) == [(epoch, index) for epoch in range(4) for index in range(44)]
    assert summary["step"] == 9 and summary["epochs"] == 4
    lines = [line for line in read_lines(tmp_path) if "learning_rate" in line]
    before = np.array([0, 16, 32, 48, 80, 112, 128, 144, 160]) / 176
    rates = [line["learning_rate"] for line in lines]
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * before)), rtol=1e-5)
    assert [line["epoch"] for line in lines] == [*(before[1:] * 4), 4]


def test_a_clock_that_jumps_changes_nothing(loop_config, finished_run, tmp_path, monkeypatch):
    """The wall clock goes back by three days while training, and forward by five."""
    clock, days = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: clock() + 86400 * days[-1])
    jumps = [StopAt(step, lambda jump=jump: days.append(jump)) for step, jump in ((4, -3), (12, 2))]
    # The clocks of Orbax's own time limits jump too, so nothing is written meanwhile.
    loop_config.hang_timeout, loop_config.checkpoint.every = 60, "100 percent"
    found = train(loop_config, tmp_path, tracking=jumps)
    whole = json.loads((finished_run / "summary.json").read_text())
    assert days == [0, -3, 2]
    assert found["state_sha256"] == whole["state_sha256"]
    assert 0 < found["wall_seconds"] < 600


def test_resuming_from_an_older_checkpoint_drops_the_lines_that_are_redone(loop_config, trained):
    workdir = trained()
    (workdir / "checkpoints" / "20").rename(workdir / "gone")
    train(loop_config, workdir)
    steps = [line["step"] for line in read_lines(workdir) if "train/loss" in line]
    assert steps == [5, 10, 15, 20]


def test_steps_are_compiled_once_and_nothing_after_the_first_log_and_checkpoint(
    loop_config, tmp_path
):
    """Counts what JAX itself reports."""
    compiled = []

    def listen(event, seconds, fun_name="", **unused):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    train(loop_config, tmp_path, tracking=[StopAt(6, lambda: compiled.append("step 6"))])
    assert sum("train_step" in name for name in compiled) == 1
    assert sum("eval_step" in name for name in compiled) == 1
    assert compiled[compiled.index("step 6") + 1 :] == []


def test_changed_config_is_refused_with_the_fields_and_allowed_by_the_flag(
    loop_config, trained, capsys
):
    """What cannot change the numbers is named, and stops nothing."""
    workdir = trained()
    loop_config.data.workers, loop_config.log.wandb, loop_config.eval.batch_size = 3, "", 24
    loop_config.checkpoint.every, loop_config.data.dir = "1 steps", "/elsewhere"
    loop_config.duration = "22 steps"
    loop_config.optim.learning_rate = 0.05
    with pytest.raises(CheckpointError) as error:
        train(loop_config, workdir)
    assert "duration: '20 steps' -> '22 steps'" in str(error.value)
    assert "optim.learning_rate: 0.1 -> 0.05" in str(error.value)
    assert "--allow_config_change=duration,optim.learning_rate" in str(error.value)
    assert "workers" not in str(error.value)
    with pytest.raises(CheckpointError) as error:
        train(loop_config, workdir, allow_config_change=["optim", "batch_size"])
    assert "duration: " in str(error.value) and "0.05" not in str(error.value)
    capsys.readouterr()
    assert train(loop_config, workdir, allow_config_change=["duration", "optim"])["step"] == 22
    shown = capsys.readouterr().out
    assert "  with data.workers: 0 -> 3\n" in shown and "  with duration: '20 steps'" in shown
    assert train(loop_config, workdir, allow_config_change=True)["step"] == 22


def test_record_with_a_field_that_is_gone_is_no_damage(loop_config, trained, monkeypatch):
    def from_dict(values):
        raise ConfigError("config has no field 'old'")

    monkeypatch.setattr("imagenet_jax.training.changes.from_dict", from_dict)
    with pytest.raises(ConfigError, match="no field 'old'"):
        train(loop_config, trained())


def test_divergence_stops_and_keeps_the_last_good_checkpoint(loop_config, trained):
    workdir = trained()
    good = json.loads((workdir / "summary.json").read_text())
    loop_config.duration, loop_config.optim.learning_rate = "60 steps", 1e30
    with pytest.raises(
        DivergenceError, match=r"last good checkpoint is step 20|not finite at step"
    ):
        train(loop_config, workdir, allow_config_change=True)
    loop_config.duration, loop_config.optim.learning_rate = "20 steps", 0.1
    assert train(loop_config, workdir)["state_sha256"] == good["state_sha256"]


def test_workdir_that_is_a_file_is_refused(loop_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=.*file cannot be written to"):
        train(loop_config, tmp_path / "file")


def test_splits_with_other_classes_are_refused(loop_config, tmp_path, monkeypatch):
    def open_split(config, train):
        source = catalog.FakeSource(30, 10 if train else 9, 8)
        return catalog.Split(config, source, train)

    monkeypatch.setattr("imagenet_jax.training.loop.task_split", open_split)
    with pytest.raises(DataError, match="10 classes and validation has 9"):
        train(loop_config, tmp_path)


def test_error_of_the_input_thread_reaches_the_loop(loop_config, tmp_path, monkeypatch):
    def broken(self, *arguments):
        yield from list(original(self, *arguments))[:3]
        raise DataError("photo.jpg is broken")

    original = catalog.Split.train_batches
    monkeypatch.setattr(catalog.Split, "train_batches", broken)
    with pytest.raises(DataError, match=r"photo\.jpg is broken"):
        train(loop_config, tmp_path)
    assert [t.name for t in threading.enumerate() if t.name == "feed"] == []


def test_a_signal_while_the_input_hangs_saves_the_last_step(loop_config, tmp_path, monkeypatch):
    def hangs(self, *arguments):
        yield from list(original(self, *arguments))[:3]
        ended.wait()

    def kill_soon():
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()

    original, ended = catalog.Split.train_batches, threading.Event()
    monkeypatch.setattr(catalog.Split, "train_batches", hangs)
    monkeypatch.setattr(feed, "_LAST_BATCH", 0.1)
    assert train(loop_config, tmp_path, tracking=[StopAt(3, kill_soon)]) is None
    ended.set()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_clu_writes_tensorboard_files_progress_and_a_profile(loop_config, tmp_path):
    loop_config.log.tensorboard, loop_config.log.profile_steps = True, 2
    train(loop_config, tmp_path, tracking=[clu_tracking])
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_error_in_an_evaluation_does_not_cost_the_training(loop_config, tmp_path, monkeypatch):
    def broken(self, rows, batch_size):
        raise DataError("photo is broken")

    loop_config.checkpoint.every = "20 steps"
    with monkeypatch.context() as patch, pytest.raises(DataError, match="photo is broken"):
        patch.setattr(catalog.Split, "eval_batches", broken)
        train(loop_config, tmp_path)
    assert (tmp_path / "checkpoints" / "10").is_dir()
    assert train(loop_config, tmp_path)["step"] == 20


def test_changed_data_set_is_refused(loop_config, trained, monkeypatch):
    """As when a photo was added to a folder between two starts."""
    real = catalog.open_split

    def open_split(config, train):
        split = real(config, train)
        split.source.num_examples += train
        return split

    monkeypatch.setattr("imagenet_jax.training.loop.task_split", open_split)
    with pytest.raises(CheckpointError, match=r"num_examples: 40 -> 41"):
        train(loop_config, trained())


def test_transfer_guard_catches_a_host_array_in_the_loop(loop_config, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "put_batch", lambda batch, mesh: dict(batch))
    with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device transfer"):
        train(loop_config, tmp_path)


def test_training_imports_no_tensorflow_and_no_sklearn(tmp_path):
    program = f"""
import sys
import imagenet_jax.training.loop
forbidden = {{"tensorflow", "clu", "tensorboard", "tensorflow_datasets", "sklearn"}}
assert not forbidden & set(sys.modules), "import"
import launch
arguments = ("--config=configs/fake_data.py --workdir={tmp_path} --config.model.name=resnet8 "
    "--config.model.stem=cifar --config.data.image_size=8 --config.batch_size=64 "
    "--config.model.bn_group_size=8 --config.duration=2steps --config.model.dtype=float32")
assert launch.main(arguments.split()) == 0
assert not forbidden & set(sys.modules), "run"
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
    assert np.isfinite(json.loads((tmp_path / "summary.json").read_text())["eval"]["loss"])

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
from imagenet_jax.errors import DataError, DivergenceError, UserError
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
    assert again["report"]["num_classes"] == 10
    assert json.loads((workdir / "summary.json").read_text()) == again
    assert again["eval"] == first["eval"]
    assert again["state_sha256"] == first["state_sha256"]
    assert again["images_per_second"] == pytest.approx(first["images_per_second"], rel=0.2)
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
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


def test_transfer_guard_catches_a_host_array_in_the_loop(loop_config, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "put_batch", lambda batch, mesh: dict(batch))
    with pytest.raises(Exception, match=r"[Dd]isallowed host-to-device transfer"):
        train(loop_config, tmp_path)


@pytest.mark.slow
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

"""Runs that were stopped and go on, as they were or with another config."""

import json
import os
import signal

import numpy as np
import pytest
from test_loop import StopAt, read_lines

from imagenet_jax.config import base_config
from imagenet_jax.data import catalog
from imagenet_jax.errors import CheckpointError, ConfigError, UserError
from imagenet_jax.training.changes import check_changes
from imagenet_jax.training.loop import train


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_resuming_from_an_older_checkpoint_drops_the_lines_that_are_redone(loop_config, trained):
    workdir = trained()
    (workdir / "checkpoints" / "20").rename(workdir / "gone")
    train(loop_config, workdir)
    steps = [line["step"] for line in read_lines(workdir) if "train/loss" in line]
    assert steps == [5, 10, 15, 20]


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
    with pytest.raises(CheckpointError, match=r"is of another version .* no field .old."):
        train(loop_config, trained())


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


@pytest.mark.parametrize(("model", "changed"), [("vit_ti16", True), ("resnet18", False)])
def test_records_of_another_rule_of_decay_are_told(model, changed):
    config = base_config()
    config.model.name = model
    record = {"config": config.to_dict(), "data": {}}
    assert not check_changes(record, config, {}, False, "it")
    del record["config"]["optim"]["decayed"]
    if not changed:
        assert not check_changes(record, config, {}, False, "it")
        return
    with pytest.raises(CheckpointError, match=r"optim\.decayed: all of two axes -> \('kernel"):
        check_changes(record, config, {}, False, "it")

"""Runs that hang, in real processes."""

import os
import signal
import subprocess

import pytest
from PIL import Image
from test_launch import TINY
from test_processes import start, start_job, wait_for

from imagenet_jax.errors import FAILED, HUNG, STOPPED

LONG = [*TINY, "--config.duration=20000 steps", "--config.log.every=1 steps"]


def lines_of(file):
    return file.read_text().count("\n")


def photo_run(tmp_path):
    """A run on sixteen photos that has begun; and the photos."""
    photos = [tmp_path / f"photos/{c}/{n}.jpg" for c in "ab" for n in range(8)]
    for photo in photos:
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(photo)
    process = start(
        [
            *(*LONG, f"--workdir={tmp_path}/run", f"--config.data.name=folder:{tmp_path}/photos"),
            *("--config.data.eval_split=train", "--config.hang_timeout=4"),
            "--config.checkpoint.every=2 steps",
        ]
    )
    wait_for(tmp_path / "run/metrics.jsonl", process, lambda file: lines_of(file) > 5)
    return process, photos


@pytest.mark.slow
def test_an_input_that_never_comes_is_named(tmp_path):
    """One of the photos becomes a pipe to which nobody writes."""
    process, photos = photo_run(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    os.replace(tmp_path / "pipe", photos[3])
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == HUNG, output
    assert "watchdog: process 0 hangs: 4 s without getting beyond the input of step" in output
    assert "loop.py" in output and "files.py" in output  # where the threads stand
    assert any(path.name.isdigit() for path in (tmp_path / "run/checkpoints").iterdir())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_photo_that_vanishes_is_named_and_no_checkpoint_is_lost(tmp_path):
    process, photos = photo_run(tmp_path)
    photos[3].unlink()
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == FAILED, output
    assert f"error: {photos[3]}" in output or str(photos[3]) in output
    photos[3].write_bytes(photos[4].read_bytes())
    again = start(["evaluate", f"--workdir={tmp_path}/run"])
    assert "top-1" in again.communicate(timeout=120)[0].decode()


@pytest.mark.slow
def test_a_process_that_stands_still_is_named_by_the_other(tmp_path):
    arguments = [*LONG, f"--workdir={tmp_path}", "--config.hang_timeout=5"]
    job = start_job(arguments, devices=1)
    wait_for(tmp_path / "metrics.jsonl", job[0], lambda file: lines_of(file) > 3)
    job[1].send_signal(signal.SIGSTOP)
    output = job[0].communicate(timeout=120)[0].decode()
    job[1].kill()
    job[1].communicate()
    assert job[0].returncode == HUNG, output
    assert "watchdog: process 0 hangs: 5 s without getting beyond" in output
    assert "watchdog: process 1 last said: " in output


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_slow_process_is_no_hang(tmp_path):
    """Stopped for a part of the time, and for less than the limit."""
    arguments = [*LONG, f"--workdir={tmp_path}", "--config.hang_timeout=30"]
    job = start_job(arguments, devices=1)
    file = tmp_path / "metrics.jsonl"
    wait_for(file, job[0], lambda file: lines_of(file) > 3)
    for _ in range(4):
        begin = lines_of(file)
        job[1].send_signal(signal.SIGSTOP)
        try:
            job[0].wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            job[1].send_signal(signal.SIGCONT)
        wait_for(file, job[0], lambda file, begin=begin: lines_of(file) > begin + 1)
    job[0].send_signal(signal.SIGTERM)
    for process in job:
        output = process.communicate(timeout=120)[0].decode()
        assert process.returncode == STOPPED, output

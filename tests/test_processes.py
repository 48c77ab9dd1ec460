"""The front door in real processes: several that work together, and some that get killed."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_launch import BOXES, ROOT, TINY
from test_step import EXHAUSTIVE, curve

import launch
from imagenet_jax.config import from_json
from imagenet_jax.errors import FAILED, STOPPED
from imagenet_jax.inference.evaluate import evaluate_run

LONG = [*TINY, "--config.duration=20 steps", "--config.log.every=1 steps"]


def start(arguments, *, devices=1, prefix=(), **environment):
    """Starts launch.py with so many virtual devices, by another command if there is a prefix."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | environment
    command = [*prefix, sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process, status=0):
    output = process.communicate()[0].decode()
    assert process.returncode == status, output
    return output


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return np.array([line["train/loss"] for line in lines if "train/loss" in line])


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def start_job(arguments, *, devices, last=(), last_environment=None):
    """Starts two processes that work together; `last` is for the second alone."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    return [
        start(
            [*arguments, *(last if number else ())],
            devices=devices,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(number),
            **((last_environment or {}) if number else {}),
        )
        for number in range(2)
    ]


@pytest.mark.xdist_group("two_processes")
@pytest.mark.parametrize(
    ("partitioner", "task"),
    [
        # It has sums and a meter.
        pytest.param("jit", "multilabel", marks=EXHAUSTIVE),
        pytest.param("jit", "detection", marks=pytest.mark.slow),
        # Images are compared with those of the other process.
        pytest.param("shard_map", "embedding", marks=pytest.mark.slow),
        pytest.param("shard_map", "multilabel", marks=EXHAUSTIVE),
        pytest.param("shard_map", "classification", marks=EXHAUSTIVE),
    ],
)
def test_two_processes_of_four_devices_give_the_numbers_of_one_device(tmp_path, partitioner, task):
    arguments = [*LONG, "--config.duration=8 steps", f"--workdir={tmp_path}"]
    arguments += [f"--config.partitioner={partitioner}", f"--config.task={task}"]
    arguments += BOXES if task == "detection" else []
    if task == "embedding":
        arguments += ["--config.embedding.loss=proxy_anchor", "--config.data.per_class=4"]
        # Of two images it would tell signs alone.
        arguments += ["--config.embedding.norm=False", "--config.optim.learning_rate=0.01"]
    for process in start_job(arguments, devices=4):
        finish(process)
    together = summary(tmp_path)
    assert (together["num_processes"], together["num_devices"]) == (2, 8)
    config = from_json((tmp_path / "config.json").read_text())
    config.partitioner = "jit"
    if task != "detection":  # tasks/test_detection.py compares its losses
        alone, _ = curve(config, devices=1, steps=8)
        np.testing.assert_allclose(losses(tmp_path), alone, atol=1e-4)
    evaluated = evaluate_run(config, tmp_path, which="latest")["eval"]
    assert together["eval"]["num_examples"] == 30
    assert together["eval"] == {
        name: value if isinstance(value, int | str) else pytest.approx(value, rel=1e-4)
        for name, value in evaluated.items()
        if value == value
    } | {name: None for name, value in evaluated.items() if value != value}  # JSON has no NaN


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=EXHAUSTIVE)])
def test_signal_to_one_of_two_processes_saves_and_stops_both(tmp_path, number):
    """In the middle of an evaluation that would take hours."""
    arguments = [*LONG, "--config.eval.every=4 steps", "--config.data.fake_eval_examples=10000000"]
    job = start_job([*arguments, f"--workdir={tmp_path}"], devices=1)
    wait_for(tmp_path / "metrics.jsonl", job[0], lambda file: file.read_text().count("\n") > 3)
    job[1].send_signal(number)
    outputs = [finish(process, status=STOPPED) for process in job]
    assert "stopped at step 4; the same command line continues" in outputs[0]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    record = json.loads(next((tmp_path / "checkpoints/4/record").glob("metadata*")).read_text())
    assert record["evaluation_due"] and record["position"]["examples"] == 64
    assert not (tmp_path / "run.lock").exists()


def test_sigterm_while_a_process_waits_for_the_others_of_its_job_is_a_stop(tmp_path):
    """As it is before it has joined them, the other one never comes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = found.getsockname()
    process = start(
        [*LONG, f"--workdir={tmp_path}"],
        JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{address[1]}",
        JAX_NUM_PROCESSES="2",
        JAX_PROCESS_ID="0",
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if not client.connect_ex(address):
                break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    finish(process, status=STOPPED)


@pytest.mark.slow
def test_a_signal_while_compiling_ends_both_processes_at_once(tmp_path):
    """In one of them; the model takes a while."""
    arguments = [*LONG, "--config.model.name=resnet50", "--config.model.stem=imagenet"]
    arguments += ["--config.data.image_size=32", f"--workdir={tmp_path}"]
    job = start_job(arguments, devices=1)
    wait_for(tmp_path / "config.json", job[0], lambda file: True)
    begin = time.monotonic()
    job[1].send_signal(signal.SIGTERM)
    for process in job:
        assert "stopped, with nothing left to save" in finish(process, status=STOPPED)
    assert time.monotonic() - begin < 20  # 0.6 s on a machine that has nothing else to do
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_an_unreadable_image_in_one_process_ends_both_with_its_name(tmp_path):
    """It is in the part of the evaluation split that process 1 reads."""
    for split in ("train", "validation"):
        for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
            (tmp_path / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name)
    broken = tmp_path / "validation/b/1.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = [*LONG, f"--config.data.name=folder:{tmp_path}", "--config.eval.every=2 steps"]
    outputs = [
        finish(process, status=FAILED)
        for process in start_job([*arguments, f"--workdir={tmp_path}/run"], devices=1)
    ]
    reason = f"unreadable image: {broken}: no image"
    assert f"error: process 1 failed: {reason}" in outputs[0]
    assert f"error: {reason}" in outputs[1]
    assert not (tmp_path / "run/run.lock").exists()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_missing_data_ends_both_of_two_processes(tmp_path):
    arguments = [*LONG, "--config.data.name=imagenet2012", f"--config.data.dir={tmp_path}"]
    for process in start_job([*arguments, f"--workdir={tmp_path}/run"], devices=1):
        assert "ILSVRC2012_img_train.tar" in finish(process, status=FAILED)


def test_missing_accelerator_is_named(tmp_path):
    process = start([*LONG, f"--workdir={tmp_path}"], JAX_PLATFORMS="rocm")
    output = process.communicate()[0].decode()
    assert process.returncode == 1
    assert "error: JAX found no devices (JAX_PLATFORMS=rocm)" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_sigint_saves_and_exits_cleanly_and_the_same_command_continues(tmp_path):
    arguments = [*LONG, "--config.duration=2000 steps", f"--workdir={tmp_path}"]
    process = start(arguments)
    wait_for(tmp_path / "metrics.jsonl", process, lambda file: file.read_text().count("\n") > 3)
    process.send_signal(signal.SIGINT)
    output = finish(process, status=STOPPED)
    assert "the same command line continues" in output
    assert "Traceback" not in output
    (saved,) = (int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    process = start(arguments)
    wait_for(
        tmp_path / "metrics.jsonl",
        process,
        lambda file: json.loads(file.read_text().splitlines()[-1])["step"] > saved + 1,
    )
    process.send_signal(signal.SIGTERM)
    finish(process, status=STOPPED)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    steps = [line["step"] for line in lines]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_write_that_fails_in_the_background_is_named_and_loses_nothing(tmp_path, one_block):
    """The limit on file sizes lets metrics through, and no checkpoint."""
    arguments = [*LONG, "--config.checkpoint.every=10 steps", f"--workdir={tmp_path}"]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$0" "$@"']
    process = start(arguments, prefix=limited)
    output = process.communicate()[0].decode()
    assert process.returncode == 1, output
    message = f"error: writing a checkpoint to {tmp_path}/checkpoints failed"
    # Orbax's own threads may print theirs before.
    assert output.rfind(message) > output.rfind("Traceback")
    assert launch.main(arguments) == 0
    assert summary(tmp_path)["step"] == 20


@pytest.mark.exhaustive
@pytest.mark.slow
def test_one_of_two_processes_that_cannot_write_any_more_ends_both_and_loses_nothing(tmp_path):
    """Its limit on file sizes is lowered once there is a checkpoint; then all goes on."""
    arguments = [*LONG, "--config.duration=100 steps", "--config.checkpoint.every=10 steps"]
    for process in start_job([*arguments, f"--workdir={tmp_path}/whole"], devices=1):
        finish(process)
    workdir = tmp_path / "run"
    job = start_job([*arguments, f"--workdir={workdir}"], devices=1)
    checkpoints = workdir / "checkpoints"
    wait_for(checkpoints, job[0], lambda folder: any(p.name.isdigit() for p in folder.iterdir()))
    resource.prlimit(job[1].pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    output = job[1].communicate(timeout=120)[0].decode()
    job[0].kill()  # as a launcher does
    job[0].communicate()
    assert job[1].returncode == 1, output
    assert f"error: writing a checkpoint to {checkpoints} failed" in output
    assert any(path.name.isdigit() for path in checkpoints.iterdir())
    outputs = [finish(p) for p in start_job([*arguments, f"--workdir={workdir}"], devices=1)]
    assert "resumed: step" in outputs[0]
    assert summary(workdir)["state_sha256"] == summary(tmp_path / "whole")["state_sha256"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chattr"), reason="there is no chattr here")
def test_a_checkpoint_folder_that_becomes_read_only_loses_nothing(tmp_path):
    """As an immutable folder: for root permissions are no obstacle."""
    arguments = [*LONG, "--config.duration=20000 steps", "--config.checkpoint.every=5 steps"]
    process = start([*arguments, f"--workdir={tmp_path}"])
    checkpoints = tmp_path / "checkpoints"
    wait_for(checkpoints, process, lambda folder: any(p.name.isdigit() for p in folder.iterdir()))
    if subprocess.run(["chattr", "+i", checkpoints], capture_output=True).returncode:
        process.kill()
        process.communicate()
        pytest.skip("this file system has no immutable folders")
    try:
        output = process.communicate(timeout=120)[0].decode()
    finally:
        subprocess.run(["chattr", "-i", checkpoints], check=True)
    assert process.returncode == 1, output
    assert f"error: writing a checkpoint to {checkpoints} failed" in output
    kept = output.rpartition("The checkpoints of steps [")[2].partition("]")[0].split(", ")
    assert {"state", "record"} <= {p.name for p in (checkpoints / kept[-1]).iterdir()}


def wait_for(file, process, condition):
    """Polls until the file is there and as wanted, while the process runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if file.exists() and condition(file):
                return
        except (ValueError, IndexError):  # a line half written
            pass
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0].decode())


@pytest.mark.slow
@pytest.mark.parametrize("during_a_write", [pytest.param(False, marks=EXHAUSTIVE), True])
def test_killed_at_five_moments_ends_with_the_bits_of_an_undisturbed_run(tmp_path, during_a_write):
    """SIGKILL at random moments of training, or as soon as a checkpoint is being written."""
    duration = ["--config.duration=300 steps", "--config.checkpoint.every=10 steps"]
    finish(start([*LONG, *duration, f"--workdir={tmp_path}/whole"]))
    workdir = tmp_path / "killed"
    arguments = [*LONG, *duration, f"--workdir={workdir}"]
    generator = random.Random(during_a_write)
    kills = []
    for number in range(5):
        process = start(arguments)
        file, target = workdir / "metrics.jsonl", 20 + 50 * number + generator.randrange(40)
        wait_for(
            file,
            process,
            lambda file, target=target: (
                json.loads(file.read_text().splitlines()[-1])["step"] >= target
            ),
        )
        time.sleep(generator.random() / 10)
        while during_a_write and not is_being_written(workdir / "checkpoints"):
            assert process.poll() is None
        process.kill()
        process.communicate()
        kills.append(json.loads(file.read_text().splitlines()[-1])["step"])
    finish(start(arguments))
    assert kills == sorted(kills)
    assert kills[-1] < 300
    assert summary(workdir)["state_sha256"] == summary(tmp_path / "whole")["state_sha256"]
    assert losses(workdir).tolist() == losses(tmp_path / "whole").tolist()


def is_being_written(directory: Path) -> bool:
    return any("orbax-checkpoint-tmp" in name for name in os.listdir(directory))

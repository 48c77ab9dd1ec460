"""Jobs of several processes on this machine: their output, their end, and starting again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imagenet_jax.errors import HUNG
from imagenet_jax.hosts.launchers.processes import run_processes

ROOT = Path(__file__).resolve().parents[3]
TINY = (
    *(f"--config={ROOT}/configs/fake_data.py", "--config.model.name=resnet8"),
    *("--config.model.width=8", "--config.model.stem=cifar", "--config.model.dtype=float32"),
    *("--config.model.bn_group_size=2", "--config.data.image_size=8"),
    *("--config.data.fake_classes=10", "--config.data.fake_eval_examples=30"),
    *("--config.batch_size=16", "--config.duration=150 steps", "--config.checkpoint.every=5 steps"),
)


def python(code):
    """A process that knows `number`, its own, and `attempts`, a file that counts its starts."""
    start = "import os, pathlib, signal, sys, time; number = int(os.environ['JAX_PROCESS_ID']); "
    return [sys.executable, "-c", start + code]


def test_the_first_error_is_shown_and_ends_the_job(tmp_path, capfd):
    code = (
        "print('hello', flush=True)\n"
        "if number == 1: sys.exit('error: no such file')\n"
        "time.sleep(60)"
    )
    begin = time.monotonic()
    assert run_processes(python(code), 3, 1, logs=tmp_path, restarts=5) == 1
    assert time.monotonic() - begin < 30
    out, error = capfd.readouterr()
    assert {"[0] hello", "[2] hello", "[1] error: no such file"} <= set(out.splitlines())
    assert "process 1 ended by status 1" in error and "error: no such file" in error
    assert "starting again" not in error  # it has said what is wrong
    assert (tmp_path / "process-1.log").read_text().endswith("error: no such file\n")


def test_a_log_that_cannot_be_written_does_not_stop_a_job(tmp_path):
    """Whose processes would wait for ever for somebody to read what they print."""
    (tmp_path / "process-0.log").mkdir()
    code = "sys.stdout.write(('x' * 1000 + '\\n') * 300)"
    assert run_processes(python(code), 1, 1, logs=tmp_path, restarts=0) == 0


@pytest.mark.parametrize(("restarts", "status", "starts"), [(0, 137, 1), (1, 137, 2), (2, 0, 3)])
def test_a_killed_process_is_started_again_with_the_others(tmp_path, restarts, status, starts):
    counter = tmp_path / "starts"
    code = (
        f"counter = pathlib.Path({str(counter)!r} + str(number))\n"
        "counter.write_text(counter.read_text() + 'x' if counter.exists() else 'x')\n"
        "if number == 0:\n"
        "  if len(counter.read_text()) < 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "else: time.sleep(1 if len(counter.read_text()) == 3 else 60)\n"
    )
    assert run_processes(python(code), 2, 1, logs=tmp_path, restarts=restarts) == status
    assert len(Path(f"{counter}0").read_text()) == starts


@pytest.mark.slow
def test_a_process_that_does_not_end_with_the_others_is_started_again(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("imagenet_jax.hosts.launchers.processes._END_TIME", 1.0)
    code = (
        f"first = pathlib.Path({str(tmp_path / 'second')!r} + str(number))\n"
        "if number == 1 and not first.exists():\n"
        "  first.touch()\n"
        "  os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    for restarts, status in ((0, HUNG), (1, 0)):
        assert run_processes(python(code), 2, 1, logs=tmp_path, restarts=restarts) == status
        assert "processes [1] have not ended 1 s after the first did" in capfd.readouterr().err
        (tmp_path / "second1").unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_reaches_all_and_is_no_reason_to_start_again(tmp_path, number):
    """Those that are started get SIGTERM, also when the launcher itself is killed."""
    code = (
        "from imagenet_jax.hosts.children import end_with_parent\n"
        "end_with_parent()\n"
        f"ended = pathlib.Path({str(tmp_path)!r}, f'end{{number}}')\n"
        "signal.signal(signal.SIGTERM, lambda *_: (ended.touch(), sys.exit(3 * number)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    outer = (
        "import sys; from pathlib import Path; "
        "from imagenet_jax.hosts.launchers.processes import run_processes; "
        f"sys.exit(run_processes({python(code)!r}, 2, 1, logs=Path({str(tmp_path)!r}), restarts=3))"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", outer], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert {job.stdout.readline(), job.stdout.readline()} == {"[0] ready\n", "[1] ready\n"}
    job.send_signal(number)
    assert job.wait(timeout=30) == (-number if number == signal.SIGKILL else 3)
    for _ in range(300):
        if (tmp_path / "end0").exists() and (tmp_path / "end1").exists():
            break
        time.sleep(0.1)
    assert (tmp_path / "end0").exists() and (tmp_path / "end1").exists()
    job.stdout.close()


def start(workdir, *arguments):
    command = [sys.executable, str(ROOT / "launch.py"), *TINY, f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_sharded_checkpoint_resumes_on_other_numbers_of_processes(tmp_path):
    """Written by 2 processes of 4 devices under fsdp; taken up by 1 of 1 and by 4 of 2."""
    arguments = (
        *("--config.sharding=fsdp", "--config.model.width=32", "--config.duration=20 steps"),
        *("--config.checkpoint.every=10 steps", "--config.log.every=1 steps"),
    )
    first = tmp_path / "2x4"
    job = start(first, "--launcher=processes:2x4", *arguments)
    output = job.communicate(timeout=300)[0].decode()
    assert job.returncode == 0, output
    for name in ("1x1", "4x2"):
        workdir = tmp_path / name
        shutil.copytree(first, workdir)
        shutil.rmtree(workdir / "checkpoints" / "20")
        job = start(workdir, f"--launcher=processes:{name}", *arguments)
        output = job.communicate(timeout=300)[0].decode()
        assert job.returncode == 0 and "resumed: step 10 of 20" in output, output
        assert len(losses(workdir)) == 20
        np.testing.assert_allclose(losses(workdir), losses(first), atol=1e-4)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_chaos(test_data):
    """benchmarks/chaos.py in short."""
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--faults=2", "--steps=40"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert result["equal"] and sum(result["faults"].values()) == 2

"""The script for TPU VMs, with a gcloud that only plays it."""

import os
import subprocess

import pytest
from test_clusters import REMOTE, TPU_VM

from imagenet_jax.hosts.launchers.job import Job
from imagenet_jax.hosts.launchers.options import parse_options
from imagenet_jax.hosts.launchers.tpu_vm import TpuVmOptions, tpu_vm_script

GCLOUD = """#!/usr/bin/env bash
# Tells of each call, answers from a list of states, and keeps what is copied.
echo "$*" >> calls
case "$*" in
  *describe*)
    state=$(head -n 1 states); sed -i 1d states
    case "$state" in
      OFFLINE) echo "could not resolve host" >&2; exit 1 ;;
      GONE) echo "ERROR: NOT_FOUND: $name" >&2; exit 1 ;;
      *) echo "$state" ;;
    esac ;;
  *'cat run.status'*) head -n 1 statuses; sed -i 1d statuses ;;
  *scp*) for file in "$@"; do if [ -f "$file" ]; then cp -p "$file" copied/; fi; done ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    """A folder with the script, a gcloud that only plays it, and a sleep that does not."""
    for name, text in {"gcloud": GCLOUD, "sleep": "#!/bin/sh\n"}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "copied").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "launch.py").touch()
    job = Job(**vars(REMOTE) | {"folder": tmp_path / "code", "restarts": 2})
    options = parse_options("tpu-vm", TPU_VM, TpuVmOptions)
    (tmp_path / "tpu-vm.sh").write_text(tpu_vm_script(job, options))
    return tmp_path


def run_script(folder, *command):
    environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(
        ["bash", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_tpu_vm_script_replaces_a_tpu_that_was_preempted(cloud):
    """Queued, active, out of reach, preempted, queued again, and then the run ends badly."""
    states = ("PROVISIONING", "ACTIVE", "ACTIVE", "OFFLINE", "GONE", "OFFLINE", "ACTIVE", "ACTIVE")
    (cloud / "states").write_text("\n".join(states) + "\n")
    (cloud / "statuses").write_text("\n70\n")
    done = run_script(cloud, "tpu-vm.sh", "up")
    assert done.returncode == 70, done.stdout + done.stderr
    kinds = ("create", "/code.tar.gz", "/run.env", "setsid", "cat run.status", "delete")
    calls = [
        next(kind for kind in kinds if kind in call)
        for call in (cloud / "calls").read_text().splitlines()
        if any(kind in call for kind in kinds)
    ]
    start = ["create", "/code.tar.gz", "/run.env", "setsid", "cat run.status"]
    assert calls == [*start, "delete", *start, "delete"]
    assert (cloud / "copied" / "code.tar.gz").stat().st_size


def test_a_key_reaches_the_hosts_in_a_file_of_its_own(cloud, monkeypatch):
    """It is in no script, argument or output, and gone from the disk when the run has begun."""
    key = 'k$e\'y "1"'
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TMPDIR", str(cloud / "temporary"))
    (cloud / "temporary").mkdir()
    (cloud / "states").write_text("ACTIVE\n")
    for verb in ("install", "run"):
        done = run_script(cloud, "tpu-vm.sh", verb)
        assert done.returncode == 0 and "k$e" not in done.stdout + done.stderr
    assert not list((cloud / "temporary").iterdir())
    handed = cloud / "copied" / "run.env"
    assert handed.stat().st_mode & 0o777 == 0o600 and "MLFLOW" not in handed.read_text()
    handed.rename(cloud / "run.env")
    seen = [cloud / "calls", cloud / "tpu-vm.sh", cloud / "copied" / "run.sh"]
    assert not any("k$e" in file.read_text() or "k\\$e" in file.read_text() for file in seen)
    python = cloud / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintenv WANDB_API_KEY > ~/printed\n")
    python.chmod(0o755)
    monkeypatch.delenv("WANDB_API_KEY")
    run_script(cloud, "copied/run.sh")
    assert (cloud / "printed").read_text() == f"{key}\n"
    assert not (cloud / "run.env").exists()


@pytest.mark.parametrize(
    ("statuses", "starts", "last"), [("75 0", 2, 0), ("137 134 70", 3, 70), ("1 0", 1, 1)]
)
def test_what_a_tpu_host_runs_starts_again_unless_it_is_of_no_use(cloud, statuses, starts, last):
    (cloud / "states").write_text("ACTIVE\n")
    assert run_script(cloud, "tpu-vm.sh", "install").returncode == 0
    python = cloud / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (cloud / "to_give").write_text(statuses.replace(" ", "\n") + "\n")
    python.write_text(
        '#!/bin/sh\necho "$@" >> ~/started\n'
        "status=$(head -n 1 ~/to_give); sed -i 1d ~/to_give; exit $status\n"
    )
    python.chmod(0o755)
    run_script(cloud, "copied/run.sh")
    started = (cloud / "started").read_text().splitlines()
    assert len(started) == starts
    assert started[0].startswith("launch.py train --config=configs/resnet50.py")
    assert int((cloud / "run.status").read_text()) == last

"""Processes of a job that do not fit together, and jobs that cannot be joined."""

import hashlib
import os
import shutil
import socket

import pytest
from test_launch import ROOT, TINY
from test_processes import start, start_job

from imagenet_jax.errors import FAILED, HUNG, ConfigError
from imagenet_jax.hosts.process import code_sha256, find_job


def test_the_hash_of_the_code_is_of_the_whole_package():
    """In all its wings: processes are compared by it."""
    package, expected = ROOT / "imagenet_jax", hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        expected.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    assert (package / "training/step.py").exists() and code_sha256() == expected.hexdigest()


JOB = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "2",
}


@pytest.mark.parametrize(
    ("environment", "on_tpu_vm", "expected"),
    [
        ({}, False, None),
        ({}, True, {}),
        (JOB, True, {"num_processes": 4, "process_id": 2}),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False, None),
        ({"SLURM_STEP_NUM_TASKS": "8"}, False, {}),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9"}, False, {}),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False, None),
    ],
)
def test_find_job(environment, on_tpu_vm, expected):
    assert find_job(environment, on_tpu_vm=on_tpu_vm) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES to how many there are"),
        ({**JOB, "JAX_COORDINATOR_ADDRESS": "a"}, "JAX_COORDINATOR_ADDRESS=a, .*HOST:PORT"),
        ({**JOB, "JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID=4; .*from 0 on"),
        ({**JOB, "JAX_PROCESS_ID": "two"}, "JAX_PROCESS_ID is 'two'; expected a whole number"),
        ({"SLURM_STEP_NUM_TASKS": "9" * 5000}, "SLURM_STEP_NUM_TASKS is '999.* whole number"),
        ({"OMPI_COMM_WORLD_SIZE": ""}, "OMPI_COMM_WORLD_SIZE is ''; expected a whole number"),
        ({"PMI_SIZE": "4"}, "pip install mpi4py"),
        ({"KUBERNETES_SERVICE_HOST": "k", "JOB_COMPLETION_INDEX": "0"}, "pip install kubernetes"),
    ],
)
def test_incomplete_jobs_are_refused(environment, message, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=message):
        find_job(environment, on_tpu_vm=False)


def test_an_unreachable_coordinator_is_named(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    environment = JOB | {"JAX_COORDINATOR_ADDRESS": address}
    process = start([*TINY, f"--workdir={tmp_path}", "--start_timeout=3"], **environment)
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == HUNG, output
    assert "error: this process could not join its job" in output
    assert address in output and "--start_timeout=3" in output


def test_processes_that_do_not_fit_together_are_refused_with_both_values(tmp_path):
    """Process 1 has another config, another NumPy and another comment in the package.

    Of NumPy's version it is told by metadata ahead of the installed ones.
    """
    distribution = tmp_path / "other" / "numpy-1.0.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.0\n")
    package = tmp_path / "copy" / "imagenet_jax"
    shutil.copytree(ROOT / "imagenet_jax", package)
    with (package / "losses.py").open("a") as file:
        file.write("# changed\n")
    path = os.pathsep.join(map(str, (distribution.parent, package.parent)))
    job = start_job(
        [*TINY, f"--workdir={tmp_path}/run", "--config.seed=1"],
        devices=1,
        last=["--config.seed=2", "--config.optim.b1=0.5"],
        last_environment={"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )
    for process in job:
        output = process.communicate(timeout=120)[0].decode()
        assert process.returncode == FAILED, output
        assert "config.seed: 1 in process 0, 2 in process 1" in output
        assert "config.optim.b1: 0.9 in process 0, 0.5 in process 1" in output
        assert "numpy: '" in output and "in process 0, '1.0.0' in process 1" in output
        assert "  code: '" in output and output.count("in process 1") == 4
    assert not (tmp_path / "run" / "checkpoints").exists()

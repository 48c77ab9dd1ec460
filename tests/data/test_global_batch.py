"""The batches that real processes load together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from one_process import main

HERE = Path(__file__).parent
STARTS = (0, 1001)


def run(folder, count, out):
    """Lets `count` processes of one device load their rows; the arrays of each."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    processes = []
    for number in range(count):
        job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
        job["JAX_PROCESS_ID"] = str(number)
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(HERE.parents[1])}
        command = [sys.executable, str(HERE / "one_process.py"), str(folder)]
        processes.append(
            subprocess.Popen(
                [*command, f"{out}{count}_{number}.npz", *map(str, STARTS)],
                env=environment | job,
                stderr=subprocess.PIPE,
            )
        )
    for process in processes:
        error = process.communicate(timeout=300)[1]
        assert process.returncode == 0, error.decode()
    return [np.load(f"{out}{count}_{number}.npz") for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_processes_load_the_global_batches_of_one(noise_folder, tmp_path, count):
    """Of this one, which has the rows of eight devices."""
    main(str(noise_folder), f"{tmp_path}/one.npz", *map(str, STARTS))
    one = np.load(tmp_path / "one.npz")
    assert one["rows"].tolist() == list(range(8))
    assert all(one[f"train {start} image"].any() for start in STARTS)
    parts = run(noise_folder, count, tmp_path / "rows")
    order = np.concatenate([part["rows"] for part in parts])
    assert order.tolist() == list(range(8))
    for name in one.files:
        together = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(together, one[name], err_msg=name)

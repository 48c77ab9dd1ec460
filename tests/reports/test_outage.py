"""Trackers and disks that fail: early an error, later a warning, never the end of training."""

import errno
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imagenet_jax.errors import UserError
from imagenet_jax.reports import guarded, tracking
from imagenet_jax.reports.guarded import Background, Guarded, GuardedImages
from imagenet_jax.training.loop import train

ROOT = Path(__file__).resolve().parents[2]


class Service(BaseHTTPRequestHandler):
    """MLflow's REST interface, as far as a run needs it; from some batch on only errors."""

    def do_GET(self):
        if "get-by-name" in self.path:
            self._answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none yet"})
        else:
            self._answer_run()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("metrics"):
            self.server.batches.append(body["metrics"])
        self._answer_run()

    def _answer_run(self):
        if len(self.server.batches) > self.server.good:
            self._answer(500, {"error_code": "INTERNAL_ERROR", "message": "out of order"})
        else:
            info = {"run_id": "7", "run_uuid": "7", "experiment_id": "1", "status": "RUNNING"}
            self._answer(200, {"experiment_id": "1", "run": {"info": info}, "run_info": info})

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service(monkeypatch):
    """One that takes two batches, and its address in the environment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.batches, server.good = [], 2
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tracked_config(loop_config):
    pytest.importorskip("mlflow")
    loop_config.log.mlflow, loop_config.duration = "tiny", "6 steps"
    loop_config.log.every = loop_config.eval.every = "1 steps"
    return loop_config


class Gallery(list):
    """A writer that keeps the names of its images and has no room for numbers."""

    def write_images(self, step, images):
        self.extend((step, name) for name in images)

    def write_scalars(self, step, scalars):
        assert "closed" not in self

    def flush(self):
        pass

    def close(self):
        self.append("closed")


def test_mlflow_and_pictures_that_fail_in_mid_run_cost_their_records_only(
    tracked_config, service, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("imagenet_jax.training.first_batch.first_batch", full_disk)
    gallery = Gallery()
    tracks = [*tracking.make_tracking(tracked_config), lambda *unused: (gallery, [])]
    assert train(tracked_config, tmp_path, tracking=tracks)["step"] == 6
    printed = capsys.readouterr()
    assert "warning: the first batch cannot be drawn: [Errno 28] No space left" in printed.out
    assert gallery == [(6, "eval/confusion"), (6, "eval/most_wrong"), "closed"]
    warnings = [line for line in printed.err.splitlines() if "warning:" in line]
    assert len(warnings) == 2
    assert "MLflow failed, training goes on: MlflowException: " in warnings[0]
    assert "500" in warnings[0] or "out of order" in warnings[0]
    assert warnings[1] == "warning: 10 of 12 records did not reach MLflow"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize("fault", ["error", "gone"])
def test_mlflow_that_fails_at_the_start_is_an_error_before_anything_is_compiled(
    tracked_config, service, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr("imagenet_jax.training.run.Run.compile", None)
    service.good = -1
    if fault == "gone":
        service.server_close()
    address = os.environ["MLFLOW_TRACKING_URI"]
    with pytest.raises(UserError, match=f"MLflow at {address} does not .*--config.log.mlflow= tr"):
        train(tracked_config, tmp_path, tracking=tracking.make_tracking(tracked_config))


class Failing:
    """A writer that takes the first record, and fails or hangs from then on."""

    def __init__(self, fail):
        self.fail, self.taken = fail, []

    def write_scalars(self, step, scalars):
        if self.taken:
            self.fail()
        self.taken.append(step)

    def flush(self):
        self.fail()

    def close(self):
        self.fail()


def full_disk(*unused):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("kind", [Guarded, Background])
def test_a_writer_that_fails_warns_once_and_says_what_was_lost(kind, capsys):
    failing = Failing(full_disk)
    writer = kind("it", failing)
    for step in range(5):
        writer.write_scalars(step, {"loss": 1.0})
    writer.flush()
    writer.close()
    assert failing.taken == [0]
    assert capsys.readouterr().err.splitlines() == [
        "warning: it failed, training goes on: OSError: [Errno 28] No space left on device",
        "warning: 4 of 5 records did not reach it",
    ]


def test_images_that_find_no_room_are_counted(capsys):
    failing = Failing(full_disk)
    failing.write_images = full_disk
    writer = GuardedImages("it", failing)
    writer.write_scalars(0, {"loss": 1.0})
    writer.write_images(1, {"a": np.zeros((2, 2, 3), np.uint8)})
    writer.close()
    assert capsys.readouterr().err.splitlines()[1:] == ["warning: 1 of 2 records did not reach it"]


def test_a_writer_that_hangs_is_not_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(guarded, "_LAST_SECONDS", 0.1)
    monkeypatch.setattr(guarded, "_MOST_WAITING", 3)
    ended = threading.Event()
    writer = Background("it", Failing(ended.wait))
    for step in range(10):
        writer.write_scalars(step, {"loss": 1.0})
    writer.close()
    ended.set()
    warning, lost = capsys.readouterr().err.splitlines()
    assert warning == "warning: it failed, training goes on: 3 records wait for it"
    assert lost in [f"warning: {n} of 10 records did not reach it" for n in (9, 10)]


FULL = """
import resource, signal, sys
from pathlib import Path
from imagenet_jax.reports.writers import MetricsFile
file = MetricsFile(Path(sys.argv[1]), resume_step=0)
file.write_scalars(1, {"loss": 1.0})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        file.write_scalars(2, {"loss": 2.0})
    except OSError:
        print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write_scalars(3, {"loss": 3.0})
"""


def test_metrics_on_a_full_disk_are_whole_lines(tmp_path):
    """A process's limit on file sizes stands for the disk; later there is room again."""
    path = tmp_path / "metrics.jsonl"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "full\n" * 2, done.stderr
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]

import contextlib
import io
import itertools
import os
import pty
import re
import termios

from imagenet_jax.reports.progress import Progress

FORMATS = {"train/loss": "loss {:.4f}", "train/top1": "top1 {:.2%}"}
LOG = {"train/loss": 12.3456, "train/top1": 0.9876, "images_per_second": 123456.7, "epoch": 3.0}


def shown(monkeypatch, stream):
    """Writes to the stream what a run of four steps shows."""
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress(start=0, total=112600, epochs=lambda step: step / 1251.1, formats=FORMATS)
    for step in range(1, 4):
        progress.step(step)
        progress.show(LOG)
    progress.evaluated(3, "test", {"top-1": "95.00%  (342 of 360)", "loss": "0.2708"})
    progress.step(4)
    progress.close()


def test_a_terminal_gets_a_bar_that_fits_and_lines_that_stay(monkeypatch):
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (24, 80))
    with open(writing, "w") as stream:
        shown(monkeypatch, stream)
    written = b""
    with contextlib.suppress(OSError):  # at the end: nobody can write any more
        while part := os.read(reading, 10**5):
            written += part
    os.close(reading)
    lines = re.split(r"[\r\n]+", written.decode())
    assert "epoch 0.0, step 3: test  top-1 95.00%  loss 0.2708" in lines
    bars = [line for line in lines if "|" in line]
    assert (
        "epoch 0.0/90 |" in bars[-1] and "loss 12.3456  top1 98.76%  123,457 images/s" in bars[-1]
    )
    assert max(map(len, lines)) <= 80


def test_a_file_gets_a_line_every_ten_seconds(monkeypatch):
    clock = itertools.chain([0.0, 5.0], itertools.repeat(10.0))
    monkeypatch.setattr("imagenet_jax.reports.progress.time.monotonic", lambda: next(clock))
    shown(monkeypatch, stream := io.StringIO())
    step, evaluation = stream.getvalue().splitlines()
    assert step.startswith("step 2 of 112,600  epoch 0.0/90  312:46:20 left")
    assert step.endswith("loss 12.3456  top1 98.76%  123,457 images/s")
    assert evaluation == "epoch 0.0, step 3: test  top-1 95.00%  loss 0.2708"

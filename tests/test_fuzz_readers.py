"""benchmarks/fuzz_readers.py in short."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz_readers.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "readers",
    [
        ("pth", "pth_legacy", "npz", "safetensors"),
        ("jpeg", "folder", "zip", "csv"),
        ("tfrecord", "tfrecord_index", "training_jpeg"),
        ("coco", "coco_masks", "voc", "voc_masks", "yolo", "yolo_masks"),
        ("class_map", "pairs", "landmarks"),
    ],
    ids="-".join,
)
def test_no_damaged_file_gets_through(readers):
    command = [sys.executable, str(SCRIPT), "--inputs=150"]
    command += [f"--reader={name}" for name in readers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]

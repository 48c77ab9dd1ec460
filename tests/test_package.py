"""The package as pip installs it."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("imagenet_jax", "configs", "pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs, built of a copy: a build leaves things behind."""
    pytest.importorskip("setuptools", minversion="77", reason="the build needs it")
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for part in (*PARTS, "README.md", "requirements.txt", "requirements-dev.txt"):
        subprocess.run(["cp", "-r", ROOT / part, source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, f"--wheel-dir={folder}", str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *arguments):
    """`python -m imagenet_jax`, with the installed package before all others."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "imagenet_jax", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_installed_package_has_all_it_needs(installed, tmp_path):
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    tracked = subprocess.run(["git", "ls-files", "imagenet_jax"], cwd=ROOT, capture_output=True)
    assert set(tracked.stdout.decode().split()) <= files
    configs = {f"imagenet_jax/{path.relative_to(ROOT)}" for path in ROOT.glob("configs/**/*.py")}
    assert configs <= files
    (entry,) = [installed / file for file in files if file.endswith("entry_points.txt")]
    assert "imagenet-jax = imagenet_jax.cli:start" in entry.read_text()
    assert run(installed, tmp_path, "fields", "momentum_dtype").returncode == 0
    shown = run(installed, tmp_path, "--config=resnet50", "--launcher=processes:1x1", "--dry_run")
    assert "-m imagenet_jax" in shown.stdout
    assert f"{installed}/imagenet_jax/configs/resnet50.py" in shown.stdout
    remote = run(installed, tmp_path, "--launcher=tpu-vm:type=v4-32,zone=z,bucket=b", "--dry_run")
    assert remote.returncode == 1 and "in a checkout of the repository" in remote.stderr
    trained = run(
        installed, tmp_path, "--config.duration=4 steps", "--config.schedule.warmup=1 steps"
    )
    assert trained.returncode == 0 and (tmp_path / "runs/quickstart/summary.json").is_file()


def test_tests_are_read_without_what_they_compare_with():
    """Where that is not installed they skip, and do not stop pytest."""
    oracle = re.compile(r"^(?:import|from) (torch|torchvision|timm|captum|facenet_pytorch)\b", re.M)
    files = (ROOT / "tests").rglob("test_*.py")
    assert [str(file) for file in files if oracle.search(file.read_text("utf-8"))] == []

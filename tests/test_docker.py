"""The Dockerfile and .dockerignore, as far as they can be looked at without Docker."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def stages():
    """{target: its instructions}, each with those of the stages it is made from."""
    text = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text())
    found, current = {}, []
    for line in text.splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\w+)", line):
            current = found[match[2]] = [*found.get(match[1], [line])]
        elif line and not line.startswith("#"):
            current.append(line)
    return found


def is_ignored(path):
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    parents = [path, *map(str, Path(path).parents)]
    return any(
        fnmatch.fnmatch(part, pattern) or fnmatch.fnmatch(f"/{part}", pattern.replace("**/", "*/"))
        for pattern in patterns
        if pattern and not pattern.startswith("#")
        for part in parents
    )


@pytest.mark.parametrize(
    ("target", "packages"), [("cpu", []), ("gpu", ["jax[cuda13]"]), ("tpu", ["jax[tpu]"])]
)
def test_each_target_is_complete_and_runs_as_no_root(target, packages):
    lines = stages()[target]
    assert re.match(r"FROM python:\d+\.\d+\.\d+-\S+ AS base$", lines[0])
    installed = re.findall(r'pip install "(.*?)"', "\n".join(lines))
    assert [name for name in installed if name.startswith("jax")] == packages
    assert lines[-1] == "USER 1000" and "useradd --create-home --uid 1000" in "\n".join(lines)
    assert 'ENTRYPOINT ["python", "launch.py"]' in lines and 'CMD ["train"]' in lines
    sources = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert "." in sources and all((ROOT / source).exists() for source in sources)


def test_the_server_is_to_be_reached_from_outside_of_its_container():
    lines = stages()["serve"]
    assert 'RUN pip install ".[serve]"' in lines and "EXPOSE 8000" in lines
    assert 'ENTRYPOINT ["python", "launch.py", "serve", "--host=0.0.0.0"]' in lines
    assert lines.index("USER 1000") > lines.index('RUN pip install ".[serve]"')


def test_an_image_without_a_target_is_the_launchers():
    assert list(stages())[-1] == "tpu"


def test_the_image_gets_the_code_and_nothing_else():
    for path in (
        *(".git/HEAD", "runs/a/config.json", ".venv/bin/python", "data/a.jpg", "wandb/x"),
        *("imagenet_jax/data/__pycache__/a.pyc", ".pytest_cache/v", "a/.ruff_cache/b"),
    ):
        assert is_ignored(path), path
    listed = ("git", "ls-files", "--", "launch.py", "imagenet_jax", "configs", "*.txt")
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no checkout")
    files = done.stdout.split()
    assert "imagenet_jax/data/pipeline.py" in files
    assert not [path for path in files if is_ignored(path)]

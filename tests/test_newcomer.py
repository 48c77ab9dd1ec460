"""A newcomer: every command of README and of the pages below docs/, as printed and in order.

On small data and short runs: a rule may append flags to a command, or say why it cannot run here.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
from documents import GUIDES, ROOT, blocks, command_lines, own_config
from PIL import Image

pytestmark = pytest.mark.xdist_group("newcomer")


class Rule(NamedTuple):
    """What a newcomer does otherwise with commands that a pattern is found in."""

    pattern: str
    reason: str
    append: str = ""  # flags, in place of not running it


TINY = (
    "--config.data.image_size=32 --config.batch_size=16 --config.eval.batch_size=16 "
    "--config.model.name=resnet8 --config.model.bn_group_size=4 --config.schedule.warmup='0 steps' "
    "--config.schedule.boundaries= --config.duration='2 steps' --config.model.dtype=float32"
)
NOISE = (
    f"{TINY} --config.data.name=fake --config.data.fake_train_examples=32 "
    "--config.data.fake_eval_examples=16"
)
SHORT = (
    "--config.duration='2 epochs' --config.batch_size=8 --config.data.image_size=64 "
    "--config.model.dtype=float32"
)
EPOCHS = "--config.duration='3 epochs'"
# The first that is found counts; each has to be found somewhere.
SKIPPED = (
    Rule(r"^pip install", "what it installs is here"),
    Rule(r"^imagenet-jax", "needs pip install .; tests/test_package.py does it"),
    Rule(r"pytest$", "this is pytest"),
    Rule(r"-m venv", "an environment on a cluster"),
    Rule(r"^(bash|tail) .*runs/resnet50/", "looks at a job on a cluster or in a cloud"),
    Rule(r"docker|kubectl", "needs a cluster"),
    Rule(r"^tensorboard", "serves until it is stopped"),
    Rule(r"log\.wandb", "needs an account"),
    Rule(r"segment_voc", "needs Pascal VOC and torchvision's weights"),
    Rule(r"detect_coco", "needs COCO and torchvision's weights"),
    Rule(r"--topology=", "minutes of XLA's TPU compiler; tests/study/test_programs.py does it"),
    Rule(r"benchmarks/(gpu_training|peer_steps)", "needs a GPU, or a checkout of a peer"),
    Rule(r"benchmarks/input_pipeline", "measures for minutes"),
)
SMALLER = (
    Rule(r"--launcher=(tpu-vm|gke)", "nobody pays", "--dry_run"),
    Rule(r"--launcher=slurm.*--dry_run", "it only prints"),
    Rule(r"--config.data.name=photos_256", "a small network", TINY),
    Rule(r"launch.py --config=(configs/)?(resnet50|cifar10_cpu|cifar10)\b", "small data", NOISE),
    Rule(r"task=(embedding|fixmatch)", "a short run", f"{SHORT} --config.model.bn_group_size=8"),
    Rule(r"^python launch.py --config=finetune", "a short run", SHORT),
    Rule(r"--config=fixmatch_digits", "a few steps", "--config.duration='20 steps'"),
    Rule(r"--config=segment_scenes", "a few steps", "--config.duration='4 steps'"),
    Rule(
        r"--config=detect_scenes",
        "a few steps",
        "--config.duration='4 steps' --config.schedule.warmup='1 steps'",
    ),
    Rule(r"--config=detect_photos", "a short run", SHORT),
    Rule(
        r"--config=mae_cifar10",
        "a few steps of digits",
        "--config.data.name=digits --config.data.image_size=8 --config.data.train_crop=none "
        "--config.duration='4 steps' --config.schedule.warmup='1 steps' --config.model.depth=1",
    ),
    Rule(r"--config=verify_digits", "a few steps", "--config.duration='100 steps'"),
    Rule(r"prepare --preview", "small pictures", "--config.data.image_size=64"),
    Rule(r"benchmark --what", "a short measurement", "--seconds=1 --config.batch_size=32"),
    Rule(r"my_config.py --workdir", "a short run", f"{SHORT} --config.batch_size=32"),
    Rule(r"sweep .*--folds", "few and short runs", f"--trials=1 --folds=2 {EPOCHS}"),
    Rule(r"sweep", "few and short runs", f"--trials=1 {EPOCHS}"),
    Rule(
        r"folds=5|=multilabel|eight_devices|two_hosts|runs/cpu|workdir=runs/whole$",
        "a short run",
        EPOCHS,
    ),
    Rule(r"study --config=quickstart", "a small step", "--batch_per_device=8"),
)
USED: set[Rule] = set()
README = (ROOT / "README.md").read_text()
# README runs in CI; two groups, so that two processes can share them.
FIRST = ("command-line.md", "recipes.md", "fine-tuning.md", "models.md")
OTHERS = tuple(page.name for page in GUIDES[1:] if page.name not in FIRST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with some photos beside it."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("launch.py", "imagenet_jax", "configs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    own_config(folder)
    rng = np.random.default_rng(0)

    def photo(path, hue):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, (48, 64, 3)) + 150 * np.eye(3, dtype=int)[hue]
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)

    for name in ("photo.jpg", "another.jpg", "PHOTO.jpg"):
        photo(folder / name, 0)
    for place, count in (("PHOTOS", 20), ("NEW_PHOTOS", 3)):
        for hue, kind in enumerate(("cat", "dog")):
            for number in range(count):
                photo(folder / place / kind / f"{number}.jpg", hue)
    for kind, count in (("cat", 6), ("dog", 6), ("unlabelled", 12)):
        for number in range(count):
            photo(folder / "FEW" / kind / f"{number}.jpg", number % 2)
    for name in range(4):
        for number in range(12):
            photo(folder / f"PEOPLE/person_{name}/{number}.jpg", name % 3)
    for name in ("n01440764_tench", "n01443537_goldfish"):
        photo(folder / f"imagenet/{name}.JPEG", 1)
    for number in range(20):
        photo(folder / f"STREETS/images/{number}.jpg", number % 3)
        mask = folder / f"STREETS/masks/{number}.png"
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 3, (48, 64)).astype(np.uint8)).save(mask)
        photo(folder / f"THINGS/JPEGImages/{number}.jpg", number % 3)
        text = folder / f"THINGS/Annotations/{number}.xml"
        text.parent.mkdir(exist_ok=True)
        text.write_text(
            "<annotation><object><name>thing</name><bndbox><xmin>5</xmin><ymin>5</ymin>"
            "<xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        )
    (folder / "STREETS/classes.txt").write_text("road\nsidewalk\nsky\n")
    for name, source in (("photos.zip", "PHOTOS"), ("imagenet_sample.zip", "imagenet")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for file in sorted((folder / source).rglob("*.*")):
                archive.write(file, file.relative_to(folder / source))
    return folder


def environment(folder):
    """One device, as a laptop has, and data sets of the newcomer's own."""
    found = os.environ | {"TFDS_DATA_DIR": str(folder / "data"), "COLUMNS": "100"}
    del found["JAX_NUM_CPU_DEVICES"], found["JAX_NUMPY_RANK_PROMOTION"]
    return found


def steps_of(page):
    """What a reader of a page does, in order: ("bash", line) and ("python", program).

    Commands that cannot run here are left out.
    """
    for block in blocks(page):
        if block.language == "python" and "def get_config" not in block.text:
            yield "python", block.text
        for line in command_lines(block) if block.language == "bash" else ():
            line = re.sub(r"^pip install -r [\w.-]+ && ", "", line)  # it is done
            rule = next((rule for rule in SKIPPED if re.search(rule.pattern, line)), None)
            if rule:
                USED.add(rule)
                continue
            line = line.replace("~/venv/bin/python", "python")
            rule = next((rule for rule in SMALLER if re.search(rule.pattern, line)), None)
            if rule:
                USED.add(rule)
                line = f"{line} {rule.append}"
            yield "bash", line


def output(folder, line):
    """What a line of bash prints."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, f"{line}\n{ended.stdout}\n{ended.stderr}"
    print(f"{line}\n{ended.stdout}")
    return ended.stdout


@pytest.mark.exhaustive
@pytest.mark.slow
def test_every_command_of_the_readme(folder):
    """Each in a shell, and what the quick start says to type next."""
    lines = [line for _, line in steps_of(ROOT / "README.md")]
    assert len(lines) == 4 and lines[0] == "python launch.py"
    for line in lines:
        printed = output(folder, line)
        if line == "python launch.py":
            hints = printed.partition("next:\n")[2].splitlines()
            hints = [hint.strip() for hint in hints if " launch.py " in hint]
            assert len(hints) == 2 and all(hint in README for hint in hints)
            for hint in hints:
                output(folder, hint)
    assert (folder / "runs/photos/evaluation/confusion.png").is_file()


# Command lines of launch.py one after the other in this process: seconds less for each.
PROGRAM = """
import contextlib, io, json, os, subprocess, sys, time, traceback
sys.path.insert(0, os.getcwd())
import launch
names, told = {}, []
for kind, text in json.load(sys.stdin):
    begin, shown = time.monotonic(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            if kind == "launch":
                status = launch.main(text)
            elif kind == "python":
                status = exec(text, names) or 0
            else:
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdin=-3,
                                      stdout=-1, stderr=-2, text=True)
                status = done.returncode
                print(done.stdout)
        except SystemExit as end:
            status = end.code
        except Exception:
            status = traceback.format_exc()
    told.append((text, status, shown.getvalue(), time.monotonic() - begin))
    json.dump(told, open("told.json", "w"))
    if status == 75:  # a signal
        break
"""


def launches(page):
    """As `steps_of`, with ("launch", arguments) for what needs no shell."""
    for kind, text in steps_of(page):
        words = shlex.split(text) if kind == "bash" else []
        alone = words[:2] == ["python", "launch.py"] and not set(words) & {">", "|", "&&"}
        if alone and not any(word.startswith("--launcher=") for word in words):
            patterns = any("*" in word for word in words)  # the shell's, unless quoted
            assert not patterns or "'" in text, text
            yield "launch", words[2:]
        else:
            yield kind, text


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("pages", [FIRST, OTHERS])
def test_every_command_of_the_pages(folder, pages):
    steps = [step for page in pages for step in launches(ROOT / "docs" / page)]
    assert len(steps) > 15
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=environment(folder),
        input=json.dumps(steps),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads((folder / "told.json").read_text())
    for text, status, shown, seconds in told:
        print(f"{seconds:5.1f} s, status {status}: {text}\n{shown}")
    assert not [(text, status) for text, status, _, _ in told if status]
    assert len(told) == len(steps)


def test_every_rule_is_for_something():
    for page in GUIDES:
        list(steps_of(page))
    assert set(SKIPPED) | set(SMALLER) <= USED

"""The package imports in one direction: a wing knows those below it, and nothing above."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "imagenet_jax"
# From below to above. Files beside the wings are wings of their own.
WINGS = (
    *(
        "errors",
        "lazy",
        "printable",
        "terminal",
        "atomic",
        "config",
        "augment",
        "models",
        "devices",
        "data",
        "weights",
        "reports",
    ),
    *(
        "tasks",
        "suites",
        "hosts",
        "training",
        "inference",
        "deploy",
        "study",
        "sweep",
        "api",
        "verbs",
        "cli",
        "__main__",
    ),
)


def imported(file):
    """The wings that a file asks for, also inside of functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("imagenet_jax.") and name != "imagenet_jax.__version__":
                yield name.split(".")[1]


def test_nothing_imports_upward():
    found = [
        (str(file.relative_to(ROOT)), wing)
        for file in sorted(ROOT.rglob("*.py"))
        for wing in imported(file)
        if file.parent != ROOT or file.stem != "__init__"
        if WINGS.index(wing) > WINGS.index(file.relative_to(ROOT).parts[0].removesuffix(".py"))
    ]
    assert not found


# What stands behind `tasks.task.Task`: all that differs between tasks.
SHARED = (
    *("training/step.py", "training/loop.py", "training/program.py", "training/feed.py"),
    *("training/run.py", "training/position.py", "training/changes.py"),
    *("training/evaluate.py", "training/checkpoint.py", "training/checkpoint_manager.py"),
    *("training/state.py", "training/clock.py", "devices", "study", "sweep"),
    *("data/chunk.py", "data/pipeline.py", "data/order.py", "data/stages.py"),
    *("inference/predict.py", "reports/outputs.py", "reports/writers.py", "reports/progress.py"),
)
WORDS = r"\b(labels?|class(es)?|num_classes|class_names|top1|top5|logits)\b"
# Python's own, matplotlib's, and XLA's names of dimensions.
OTHER = r"^ *class |@dataclass|@classmethod|label=|dim_labels"


@pytest.mark.parametrize("place", SHARED)
def test_what_all_tasks_share_knows_none_of_them(place):
    path = ROOT / place
    for file in [path] if path.suffix else path.rglob("*.py"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if not re.search(OTHER, line):
                assert not re.search(WORDS, line), f"{file}:{number}: {line}"


def test_every_name_of_a_face_is_there():
    for face in ROOT.rglob("__init__.py"):
        package = ".".join(("imagenet_jax", *face.parent.relative_to(ROOT).parts))
        module = __import__(package, fromlist=["__all__"])
        for name in getattr(module, "__all__", ()):
            assert getattr(module, name) is not None, f"{package}.{name}"
            assert not (face.parent / f"{name}.py").exists(), f"{package}.{name} hides a file"

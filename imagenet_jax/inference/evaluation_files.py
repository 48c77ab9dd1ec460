"""What an evaluation leaves behind in a working directory, beside what it says."""

from pathlib import Path
from typing import Any

import jax

from imagenet_jax.data import Split
from imagenet_jax.errors import ConfigError
from imagenet_jax.hosts.lock import run_at_work
from imagenet_jax.reports.workdir import REPORT
from imagenet_jax.reports.writers import replace_csv
from imagenet_jax.tasks.task import Meter, Task
from imagenet_jax.terminal import say, working
from imagenet_jax.training.evaluate import write_report
from imagenet_jax.training.trained import TrainedModel


def unless_in_use(workdir: Path) -> Path | None:
    """None for a folder in which a run is at work, which a line says."""
    holder = run_at_work(workdir)
    if holder:
        say(f"{workdir} is in use by {holder}: what goes wrong is not written there")
    return None if holder else workdir


def write_files(
    task: Task, meter: Meter | None, split: Split, workdir: Path | None, per_image: Path | None
) -> dict[str, Any]:
    """report, and errors if there are."""
    written: dict[str, Any] = {}
    if workdir:
        written["report"] = write_report(task, meter, split, workdir / REPORT)
    if per_image and jax.process_index() == 0:
        try:
            replace_csv(per_image, task.example_rows(meter, split))
        except OSError as error:
            written["errors"] = [{"error": f"{per_image} cannot be written: {error}"}]
    return written


def check_explainable(task: Task) -> None:
    """Raises ConfigError where `add_explanations` is not possible."""
    from imagenet_jax.inference.explanation.mistakes import check_explained

    check_explained(task)
    if jax.process_count() > 1:
        raise ConfigError(f"--explain is for one process, and this job has {jax.process_count()}")


def add_explanations(
    written: dict[str, Any], trained: TrainedModel, meter: Meter, split: Split, workdir: Path
) -> dict[str, Any]:
    """What `write_files` gave, and a picture in the folder of the report; or one more error."""
    from imagenet_jax.inference.explanation.mistakes import NAME, draw_explained

    path = workdir / REPORT / NAME
    try:
        with working("explaining what goes wrong"):
            drawn = draw_explained(trained, meter, split, path)
    except OSError as error:
        failed = {"error": f"{path} cannot be written: {error}"}
        return {**written, "errors": [*written.get("errors", []), failed]}
    report = written["report"]
    if not drawn or not report:
        return written
    return {**written, "report": {**report, "files": [*report["files"], NAME]}}

"""What a run leaves behind and shows while it goes on."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from imagenet_jax.errors import UserError
from imagenet_jax.reports.guarded import Guarded
from imagenet_jax.reports.profile import Profile
from imagenet_jax.reports.progress import Progress
from imagenet_jax.reports.workdir import check_run_folder
from imagenet_jax.reports.writers import ImageWriter, MetricsFile, Tracking, Writer


class Outputs:
    """Everything that shows or keeps the course of a run; only process 0 has any."""

    def __init__(
        self,
        workdir: Path,
        start: int,
        total: int,
        config: ml_collections.ConfigDict,
        tracking: Sequence[Tracking],
        formats: Mapping[str, str],
        epochs: Callable[[int], float],
        evaluation_due: bool = False,
    ):
        """Opens them, in process 0.

        Args:
          workdir: of the run.
          start: steps done.
          total: steps of the whole run.
          config: of the run.
          tracking: each adds a writer and hooks.
          formats: of the metrics that the progress line shows.
          epochs: that are done after so many steps.
          evaluation_due: whether the evaluation of step `start` is still to be done.
        """
        self._writers: list[Writer] = []
        self._hooks: list[Callable[[int], Any]] = []
        self._progress = self._profile = None
        if jax.process_index() != 0:
            return
        metrics = workdir / "metrics.jsonl"
        file = MetricsFile(metrics, resume_step=start, evaluation_due=evaluation_due)
        self._writers = [Guarded(metrics.name, file)]
        for track in tracking:
            writer, hooks = track(config, workdir, start, total)
            self._writers.append(writer)
            self._hooks += hooks
        if config.log.profile_steps:
            self._profile = Profile(workdir, config.log.profile_steps, start, total)
            self._hooks.append(self._profile)
        self._progress = Progress(start=start, total=total, epochs=epochs, formats=formats)

    def __enter__(self) -> "Outputs":
        return self

    def step_done(self, step: int) -> None:
        for hook in self._hooks:
            hook(step)
        if self._progress:
            self._progress.step(step)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        for writer in self._writers:
            writer.write_scalars(step, scalars)
        if self._progress:
            self._progress.show(scalars)

    def evaluated(self, step: int, split: str, rows: Mapping[str, str]) -> None:
        """A line on an evaluation, which stays; `rows` as of `Task.rows`."""
        if self._progress:
            self._progress.evaluated(step, split, rows)

    @property
    def takes_images(self) -> bool:
        """Whether any writer does."""
        return any(isinstance(writer, ImageWriter) for writer in self._writers)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Images uint8 [H, W, 3] by their names, for the writers that take some."""
        for writer in self._writers:
            if isinstance(writer, ImageWriter):
                writer.write_images(step, images)

    def training_done(self) -> None:
        """Closes all but the writers of images: there are some of the last evaluation."""
        images = [writer for writer in self._writers if isinstance(writer, ImageWriter)]
        self._close([writer for writer in self._writers if writer not in images])
        for writer in images:
            writer.flush()
        self._writers = images

    def __exit__(self, *unused: object) -> None:
        self._close(self._writers)

    def _close(self, writers: Sequence[Writer]) -> None:
        if self._profile:
            self._profile.close()
        for writer in writers:
            writer.flush()
            writer.close()
        if self._progress:
            self._progress.close()
        self._profile = self._progress = None


def make_workdir(workdir: Path) -> None:
    """Makes the working directory. Raises UserError if it cannot be made or written to."""
    check_run_folder(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written to: {error}") from error

"""Orbax's CheckpointManager, set up to write from a thread while the loop goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from imagenet_jax.errors import CheckpointError

# Warnings of what is meant to be: of a run that is only read, of a checkpoint without an
# evaluation.
_MEANT = (
    *("CheckpointManagerOptions.read_only", "Given directory is read only"),
    "Requested `tracked_metric`",
)
logging.get_absl_logger().addFilter(lambda record: not str(record.msg).startswith(_MEANT))


class Manager(ocp.CheckpointManager):
    """Keeps the latest checkpoints of a directory, and those of the best scores."""

    def __init__(self, directory: Path, *, keep: int, read_only: bool, keep_best: int = 1):
        """Makes `directory`, unless `read_only`; `keep` latest and `keep_best` best stay."""
        if not read_only:
            directory.mkdir(parents=True, exist_ok=True)
        best = BestN(get_metric_fn=_score, n=keep_best, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_score,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=False,
            # Named, they meet at the coordinator: collectives would get between the step's.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                active_processes=set(range(jax.process_count()))
            ),
        )
        self._failures: list[BaseException] = []
        handlers = {
            "state": _noting(ocp.StandardCheckpointHandler(), self._failures),
            "record": _noting(ocp.JsonCheckpointHandler(), self._failures),
        }
        _check_scores(directory)
        super().__init__(directory, options=options, item_handlers=handlers)

    def check_for_errors(self) -> None:
        """Raises what made a write fail, also while Orbax waits for the others to have written."""
        if self._failures:
            raise self._failures[0]
        super().check_for_errors()

    def reached_preemption(self, step: int) -> bool:
        """No: the loop asks JAX's preemption service, at each step.

        A thread that asked about an earlier one would turn back the count by which the processes
        agree where to stop.
        """
        del step
        return False


class _Write:
    """A future of Orbax's that notes its failure."""

    def __init__(self, future: ocp.future.Future, failures: list[BaseException]):
        self._future, self._failures = future, failures

    def result(self, timeout: int | None = None) -> Any:
        try:
            return self._future.result(timeout)
        except BaseException as error:
            self._failures.append(error)
            raise


def _noting(handler: Any, failures: list[BaseException]) -> Any:
    """The handler, with a note of each of its writes that fails."""
    orbax_save = handler.async_save

    async def async_save(*args: Any, **kwargs: Any) -> list[_Write]:
        return [_Write(future, failures) for future in await orbax_save(*args, **kwargs) or ()]

    handler.async_save = async_save
    return handler


def _check_scores(directory: Path) -> None:
    """Raises CheckpointError for a damaged score: with it Orbax opens no checkpoint at all."""
    for file in directory.glob("[0-9]*/metrics/metrics"):
        if not file.parent.parent.name.isdecimal():  # one that was being written
            continue
        try:
            scores = json.loads(file.read_text())
        except FileNotFoundError:  # a run that goes on has deleted it
            continue
        except (ValueError, OSError) as error:
            scores = error
        if not isinstance(scores, dict):
            raise CheckpointError(
                f"{file} is damaged: {scores}. Remove the folder {file.parent}: the checkpoint "
                "then counts as one without an evaluation"
            )


def write_score(checkpoint: Path, score: float) -> None:
    """Puts a score into a checkpoint that was saved without, where Orbax would have."""
    partial = checkpoint / "metrics.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "metrics").write_text(json.dumps({"score": score}))
    shutil.rmtree(checkpoint / "metrics", ignore_errors=True)
    partial.rename(checkpoint / "metrics")


def scores(directory: Path) -> dict[int, float]:
    """Of the checkpoints in a directory that have one, by their steps."""
    found = {}
    for file in directory.glob("*/metrics/metrics"):
        step = file.parts[-3]
        if step.isdecimal():
            found[int(step)] = _score(json.loads(file.read_text()))
    return dict(sorted(found.items()))


def _score(metrics: dict[str, float]) -> float:
    """There is one; checkpoints of before have it under the metric's name."""
    (score,) = metrics.values()
    return score

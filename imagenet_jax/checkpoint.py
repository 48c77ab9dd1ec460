"""Orbax behind a few methods: save, restore, record, steps, wait, close.

A checkpoint is the state together with a record (JSON): config, position in the data,
clock, library versions and a checksum over the state's bits. Orbax writes it in the
background into a temporary folder and renames that, so a kill leaves no half of one.
"""

import contextlib
import functools
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from imagenet_jax.errors import CheckpointError, DivergenceError, UserError
from imagenet_jax.state import TrainState, all_finite, checksum

Record = dict[str, Any]
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"),
    *("tensorflow-cpu", "tensorflow", "tensorflow-datasets", "array-record"),
)


class Checkpoints:
    """The checkpoints of a working directory: the latest few and the best by top1."""

    def __init__(self, directory: Path, *, keep: int, read_only: bool = False):
        """Opens or makes `directory`; `keep` latest checkpoints stay, beside the best.

        With `read_only` nothing is touched: a run may be writing to it.
        """
        self.directory = Path(directory).absolute()
        best = BestN(get_metric_fn=_top1, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            best_fn=_top1,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=handlers
        )
        self._check = jax.jit(lambda state: (checksum(state), all_finite(state)))

    def compile(self, shapes: TrainState) -> None:
        """Compiles what `save` runs on the devices, so that the first one takes no longer."""
        self._check = self._check.lower(shapes).compile()

    def save(self, step: int, state: TrainState, record: Record, top1: float | None) -> None:
        """Starts to write a checkpoint; returns when the state has been copied to the host.

        Args:
          step: updates done.
          state: the state; may be donated once this returns.
          record: JSON-like facts to keep with it.
          top1: evaluation accuracy 0 to 1 at this step, if there is one.

        Raises:
          CheckpointError: if the disk is too full, or if the previous save failed.
          DivergenceError: if the state holds a NaN or an infinity.
        """
        self._refuse_full_disk(state)
        bits, finite = jax.device_get(self._check(state))
        if not finite:
            raise DivergenceError(
                f"the state is not finite at step {step}; it is not saved. The checkpoints of "
                f"steps {sorted(self._manager.all_steps())} in {self.directory} are kept. Lower "
                "config.optim.learning_rate or set config.optim.clip_norm"
            )
        record = {**record, "versions": versions(), "checksum": int(bits)}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
        )
        metrics = None if top1 is None else {"top1": top1}
        with self._named_errors():
            if not self._manager.save(step, args=args, metrics=metrics):
                raise RuntimeError(f"Orbax did not take step {step} after {self.steps()[:1]}")

    def restore(
        self,
        shapes: TrainState,
        *,
        which: str = "latest",
        check: Callable[[int, Record], None] = lambda step, record: None,
        set_aside_damaged: bool = False,
    ) -> tuple[TrainState, Record] | None:
        """Reads a checkpoint, or returns None if there is none at all.

        A damaged one is passed over with a warning, and the one before it is taken.

        Args:
          shapes: shapes, dtypes and shardings that the state must have.
          which: "latest", "best" or a step number.
          check: called with step and record before the state is read; may raise.
          set_aside_damaged: rename damaged ones that were passed over to STEP.damaged, so that
            their steps can be saved again.

        Raises:
          CheckpointError: if the checkpoint is of another model, if the step does not exist,
            or if no checkpoint can be read.
        """
        damaged: dict[int, str] = {}
        for step in self.steps(which):
            try:
                record, stored = self._read_record(step)
                check(step, record)
                self._refuse_other_model(step, stored, shapes)
                state = self._read_state(step, shapes)
                fault = ""
            except UserError:
                raise
            except Exception as error:  # Orbax raises every kind, down to a bare Exception
                fault = str(error).split("\n")[0][:300] or type(error).__name__
            if not _everywhere(not fault):
                fault = fault or "another process cannot read it"
            else:
                fault = self._wrong_checksum(state, record)
            if fault:
                damaged[step] = fault
                logging.warning(
                    "checkpoint %s/%d is damaged: %s", self.directory, step, damaged[step]
                )
                continue
            if set_aside_damaged:
                self._set_aside(damaged)
            return state, record
        if damaged:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read: {reasons}. Bring back a copy, or "
                "use another --workdir to train from the beginning"
            )
        return None

    def record(self, which: str = "latest") -> Record | None:
        """The record of the first checkpoint of `which` that can be read; None without one."""
        for step in self.steps(which):
            with contextlib.suppress(Exception):  # `restore` tells what is damaged
                return self._read_record(step)[0]
        return None

    def steps(self, which: str = "latest") -> list[int]:
        """The steps to try for `which`, in order of preference; empty without checkpoints."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        if which == "best":
            best = self._manager.best_step()
            return steps if best is None else [best, *(step for step in steps if step != best)]
        if which == "latest":
            return steps
        if not which.isdigit() or int(which) not in steps:
            listed = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(
                f"no checkpoint {which!r} in {self.directory}; expected latest, best or one of "
                f"the steps {listed}"
            )
        return [int(which)]

    def diverged(self, step: int, loss: float, learning_rate: float) -> DivergenceError:
        """The error of a training loss that is not finite at a step."""
        self.wait()
        kept = self.steps()
        return DivergenceError(
            f"the training loss is {loss} at step {step}. "
            + (f"The last good checkpoint is step {kept[0]} " if kept else "No checkpoint yet ")
            + f"in {self.directory}. Lower config.optim.learning_rate (now {learning_rate:g}), "
            "warm up longer, or set config.optim.clip_norm"
        )

    def wait(self) -> None:
        """Returns when everything is on disk. Raises CheckpointError if that failed."""
        with self._named_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the directory."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _read_record(self, step: int) -> tuple[Record, Any]:
        """The record, and the names and shapes of the stored arrays."""
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        record = self._manager.restore(step, args=args)["record"]
        return record, self._manager.item_metadata(step)["state"].tree

    def _read_state(self, step: int, shapes: TrainState) -> TrainState:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        return self._manager.restore(step, args=args)["state"]

    def _wrong_checksum(self, state: TrainState, record: Record) -> str:
        """What is wrong with a state that was read, or nothing."""
        found, written = int(jax.device_get(self._check(state)[0])), record["checksum"]
        return "" if found == written else f"checksum {found} of the state, {written} written"

    def _refuse_other_model(self, step: int, stored: Any, shapes: TrainState) -> None:
        """Compares the arrays of a checkpoint, by name and shape, with those expected."""
        have, want = _array_shapes(stored), _array_shapes(shapes)
        wrong = [f"missing {name} {want[name]}" for name in want if name not in have]
        wrong += [f"unexpected {name} {have[name]}" for name in have if name not in want]
        wrong += [
            f"{name} is {have[name]}, expected {want[name]}"
            for name in want
            if name in have and have[name] != want[name]
        ]
        if wrong:
            more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} is of another model than the config's: "
                + "; ".join(wrong[:8])
                + more
            )

    def _refuse_full_disk(self, state: TrainState) -> None:
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < need:
            raise CheckpointError(
                f"disk full: {self.directory} has {free / 1e6:.0f} MB free and a checkpoint "
                f"needs up to {need / 1e6:.0f} MB; the checkpoints of steps "
                f"{sorted(self._manager.all_steps())} are kept. Make room and start again"
            )

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turns what Orbax raises, also from its background thread, into a CheckpointError."""
        try:
            yield
        except Exception as error:
            free = shutil.disk_usage(self.directory).free
            kept = [int(path.name) for path in self.directory.iterdir() if path.name.isdigit()]
            raise CheckpointError(
                f"writing a checkpoint to {self.directory} failed ({free / 1e6:.0f} MB free on "
                f"this disk): {error}. The checkpoints of steps {sorted(kept)} are kept"
            ) from error

    def _set_aside(self, steps: Iterable[int]) -> None:
        for step in steps:
            path = self.directory / str(step)
            aside = path.with_name(f"{step}.damaged")
            logging.warning("renamed %s to %s", path, aside.name)
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints set aside")
        self._manager.reload()


def _everywhere(good: bool) -> bool:
    """Whether it is so in every process."""
    if jax.process_count() == 1:
        return good
    return bool(multihost_utils.process_allgather(np.array(good)).all())


def _top1(metrics: dict[str, float]) -> float:
    return metrics["top1"]


def _array_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """{"params/head/bias": (10,), ...}; works for a state and for Orbax's metadata of one."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {
        "/".join(
            str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
        ): tuple(leaf.shape)
        for path, leaf in leaves
    }


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found

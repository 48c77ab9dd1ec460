"""Orbax behind a few methods: save, restore, record, steps, wait, close.

A checkpoint is the state together with a record (JSON): config, position in the data,
clock, library versions and a checksum over the state's bits. A thread gives Orbax a copy of
the state, while training goes on; Orbax writes it into a temporary folder and renames that,
so a kill leaves no half of one.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from imagenet_jax.devices.parallel import peak_bytes
from imagenet_jax.devices.sharding import bytes_per_device
from imagenet_jax.errors import CheckpointError, DivergenceError, UserError
from imagenet_jax.hosts.coordination import versions
from imagenet_jax.reports.workdir import no_checkpoint
from imagenet_jax.training.checkpoint_manager import Manager, write_score
from imagenet_jax.training.state import TrainState, all_finite, checksum, different_arrays

Record = dict[str, Any]


class Checkpoints:
    """The checkpoints of a working directory: the latest few and the best."""

    def __init__(self, directory: Path, *, keep: int, read_only: bool = False, keep_best: int = 1):
        """Opens or makes `directory`; `keep` latest and `keep_best` best checkpoints stay.

        With `read_only` nothing is touched: a run may be writing to it.
        """
        self.directory = Path(directory).absolute()
        options = {"keep": keep, "keep_best": keep_best, "read_only": read_only}
        self._manager = Manager(self.directory, **options)
        self._check = jax.jit(lambda state: (checksum(state), all_finite(state)))
        self._copy: Callable[[TrainState], TrainState] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def compile(self, shapes: TrainState, train_step: jax.stages.Compiled) -> None:
        """Compiles what `save` runs on the devices, so that the first one takes no longer.

        Args:
          shapes: of the state.
          train_step: if the memory of a device holds a second state beside what this needs,
            `save` copies the state there and does not wait for the host.
        """
        self._check = self._check.lower(shapes).compile()
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)
        if peak_bytes(train_step) + bytes_per_device(shapes) <= 0.9 * memory:
            shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
            copy = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=shardings)
            self._copy = copy.lower(shapes).compile()

    def save(self, step: int, state: TrainState, record: Record, score: float | None) -> None:
        """Starts to write a checkpoint; returns when the state may be donated.

        Args:
          step: updates done.
          state: the state.
          record: JSON-like facts to keep with it.
          score: of the evaluation at this step, larger if better; None: there is none.

        Raises:
          CheckpointError: if the disk is too full, or if the previous save failed.
          DivergenceError: if this state, or that of the previous save, holds a NaN or an
            infinity; it is not written.
        """
        self._finish_thread()
        self._refuse_full_disk(state)
        checked = self._check(state)
        if self._copy is None:
            self._write(step, state, checked, record, score)
        else:
            copy = self._copy(state)
            self._writing = self._thread.submit(self._write, step, copy, checked, record, score)

    def add_score(self, step: int, score: float) -> None:
        """Gives the saved checkpoint of a step the score of an evaluation that came later."""
        self.wait()
        if jax.process_index() == 0:
            with self._named_errors():
                write_score(self.directory / str(step), score)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"scored {step}")
        self._manager.reload()

    def _write(
        self, step: int, state: TrainState, checked: Any, record: Record, score: float | None
    ) -> None:
        """Gives Orbax the state, which copies it to the host, and writes it in a thread."""
        bits, finite = jax.device_get(checked)
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
        metrics = None if score is None else {"score": score}
        with self._named_errors():
            if not self._manager.save(step, args=args, metrics=metrics):
                latest = self._manager.latest_step()
                raise RuntimeError(f"Orbax did not take step {step} after {latest}")

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
            except (UserError, MemoryError):
                raise
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" in str(error):  # which says nothing of the checkpoint
                    raise
                fault = str(error).split("\n")[0][:300]
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
        self._finish_thread()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if which == "best":
            best = self._manager.best_step()
            return steps if best is None else [best, *(step for step in steps if step != best)]
        if which == "latest":
            return steps
        if not which.isdigit() or int(which) not in steps:
            raise no_checkpoint(which, self.directory, steps)
        return [int(which)]

    def diverged(self, what: str, learning_rate: float) -> DivergenceError:
        """The error of a run that has gone astray; `what` says which step is not finite."""
        self.wait()
        kept = self.steps()
        return DivergenceError(
            f"{what}. "
            + (f"The last good checkpoint is step {kept[0]} " if kept else "No checkpoint yet ")
            + f"in {self.directory}. Lower config.optim.learning_rate (now {learning_rate:g}), "
            "warm up longer, or set config.optim.clip_norm"
        )

    def wait(self) -> None:
        """Returns when everything is on disk. Raises what `save` does if that failed."""
        self._finish_thread()
        self._writing = self._thread.submit(self._manager.wait_until_finished)
        self._finish_thread()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *unused: object) -> None:
        if error is None or jax.process_count() == 1:  # else others may never come
            self.close()

    def close(self) -> None:
        """Waits and lets go of the directory."""
        self.wait()
        self._thread.shutdown()
        with self._named_errors():
            self._manager.close()

    def _finish_thread(self) -> None:
        """Waits for the thread; raises what went wrong in it, or in one of Orbax's meanwhile."""
        writing, self._writing = self._writing, None
        with self._named_errors():
            self._manager.check_for_errors()
            while writing and wait([writing], timeout=0.5).not_done:
                self._manager.check_for_errors()
            if writing:
                writing.result()

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
        wrong = different_arrays(stored, shapes)
        if wrong:
            more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            raise CheckpointError(
                f"checkpoint {step} in {self.directory} is of another model or optimizer than "
                "the config's: " + "; ".join(wrong[:8]) + more
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
        except (UserError, jax.errors.JaxRuntimeError):  # the latter if another process is gone
            raise
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

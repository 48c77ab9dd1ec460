"""Writers whose failure costs what they were to write, and not the training."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from imagenet_jax.reports.writers import ImageWriter, Writer
from imagenet_jax.terminal import say

if TYPE_CHECKING:
    import numpy as np

_MOST_WAITING = 10_000  # records of a few hundred bytes
# Less than a launcher gives the last process of a job, see `launchers.processes`.
_LAST_SECONDS = 40.0


class Guarded:
    """A writer that warns when it first fails, and at the end says how much was lost."""

    def __init__(self, name: str, writer: Writer):
        """`name` is what the warnings call it."""
        self._name, self._writer = name, writer
        self._warned, self._records, self._lost = False, 0, 0

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._records += 1
        if not self._try(lambda: self._writer.write_scalars(step, scalars)):
            self._lost += 1

    def flush(self) -> None:
        self._try(self._writer.flush)

    def close(self) -> None:
        self._try(self._writer.close)
        self._say_what_was_lost()

    def _try(self, call: Callable[[], None]) -> bool:
        """Whether it went well."""
        try:
            call()
        except Exception as error:  # each service raises its own
            self._warn(f"{type(error).__name__}: {error}")
            return False
        return True

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            one_line = " ".join(reason.split())
            say(f"warning: {self._name} failed, training goes on: {one_line}")

    def _say_what_was_lost(self) -> None:
        if self._lost:
            say(f"warning: {self._lost} of {self._records} records did not reach {self._name}")


class GuardedImages(Guarded):
    """A writer of images that warns as well."""

    _writer: ImageWriter

    def write_images(self, step: int, images: Mapping[str, "np.ndarray"]) -> None:
        self._records += 1
        if not self._try(lambda: self._writer.write_images(step, images)):
            self._lost += 1


class Background(Guarded):
    """A writer that may also take its time, as a service does: a thread calls it."""

    def __init__(self, name: str, writer: Writer):
        super().__init__(name, writer)
        self._waiting: queue.SimpleQueue[tuple[int, Mapping[str, float]] | None]
        self._waiting, self._written = queue.SimpleQueue(), 0
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._records += 1
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put((step, dict(scalars)))
        else:
            self._warn(f"{_MOST_WAITING:,} records wait for it")

    def flush(self) -> None:
        """The thread sends what waits as fast as it can."""

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(_LAST_SECONDS)
        if self._thread.is_alive():
            self._warn(f"it took more than {_LAST_SECONDS:.0f} s to end")
        self._lost = self._records - self._written
        self._say_what_was_lost()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._written += self._try(lambda record=record: self._writer.write_scalars(*record))
        self._try(self._writer.close)

"""Moves batches to the devices ahead of the step that needs them."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from imagenet_jax.devices.parallel import put_batch
from imagenet_jax.training.clock import Clock

_END = object()
_LOOK = 0.5  # seconds of waiting until `check_wait` is asked again
_LAST_BATCH = 3.0  # seconds for the one that is being made when nobody wants it any more


class Feed:
    """Iterates over batches on the devices; a thread keeps up to `depth` of them ready."""

    def __init__(
        self,
        host_batches: Iterator[Mapping[str, np.ndarray]],
        mesh: Mesh,
        clock: Clock | None = None,
        depth: int = 2,
        check_wait: Callable[[float], None] = lambda seconds: None,
    ):
        """Starts the thread.

        Args:
          host_batches: what it takes.
          mesh: the devices.
          clock: is told how long the devices were idle for lack of input.
          depth: most batches ready.
          check_wait: called with the seconds that a wait for input takes; may raise.
        """
        self._batches = host_batches
        self._mesh = mesh
        self._clock = clock
        self._check_wait = check_wait
        self._queue: queue.Queue = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="feed", daemon=True)
        self._thread.start()

    def next(self, running: Any = None) -> dict[str, jax.Array] | None:
        """The next batch, or None at the end.

        Args:
          running: a result of the step that the devices are busy with; waiting counts as
            waiting for input only from the moment it is finished.

        Raises:
          Exception: whatever the host pipeline or `check_wait` raised.
        """
        waiting = contextlib.nullcontext()
        if self._queue.empty():
            jax.block_until_ready(running)
            waiting = self._clock.input_wait() if self._clock else waiting
        with waiting:
            item = self._take()
        if isinstance(item, BaseException):
            raise item
        return None if item is _END else item

    def close(self) -> None:
        """Ends the thread, also in the middle of the data; one that hangs is left behind."""
        self._closed.set()
        deadline = time.monotonic() + _LAST_BATCH
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _take(self) -> Any:
        begin = time.monotonic()
        while True:
            try:
                return self._queue.get(timeout=_LOOK)
            except queue.Empty:
                self._check_wait(time.monotonic() - begin)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                if self._closed.is_set():
                    return
                self._queue.put(put_batch(batch, self._mesh))
            self._queue.put(_END)
        except BaseException as error:
            self._queue.put(error)

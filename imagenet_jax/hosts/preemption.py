"""SIGTERM, SIGINT and SIGHUP ask a run to save and stop, whatever it is at.

A thread notices them, as Python's own handlers wait until a compilation or a step is over.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import jax

from imagenet_jax.errors import STOPPED
from imagenet_jax.hosts import coordination
from imagenet_jax.hosts.children import stop_signals
from imagenet_jax.hosts.ending import end_job, leave
from imagenet_jax.hosts.process import is_program

_NUMBERS = stop_signals()
_DAY = 86400.0  # of those that wait for a process that stands still, the watchdog knows more
_LONGEST_WAIT = 10.0  # seconds for input in one process of several, once it is asked to stop


class StopRequested(Exception):
    """The run is to stop, and what it is at need not be finished."""


class StopRequests:
    """Whether a run is to stop; the processes of a job agree on the place.

    Attributes:
      at_once: nothing would be lost, as at the start, so that a signal ends the process, and its
        job, without more ado.
    """

    def __init__(self) -> None:
        self.at_once = True
        self._requested = threading.Event()
        self._place = 0  # how often `reached` was called
        self._stop_at: int | None = None
        self._agreeing = threading.Lock()

    def reached(self) -> bool:
        """Whether to stop here; every process asks at the same places in the same order."""
        if not coordination.is_job():
            return self._requested.is_set()
        with self._agreeing:
            self._place += 1
            return self._stop_at is not None and self._place >= self._stop_at

    def check_wait(self, seconds: float) -> None:
        """Ends a wait for input, which may never come, if the run is to stop.

        Args:
          seconds: that it took so far.

        Raises:
          StopRequested: in a process that works alone. Of several the state is in a step that
            waits for this one, so that it cannot be saved: after a while their job is ended.
        """
        if not self._requested.is_set():
            return
        if not coordination.is_job():
            raise StopRequested
        if seconds > _LONGEST_WAIT:
            _end_job("was stopped while it waited for input; the same command line continues")

    def request(self) -> None:
        """Asks for a stop in all processes of the job."""
        if self.at_once:
            _end_job("was stopped, with nothing left to save; the same command line continues")
        if coordination.is_job():
            coordination.announce("stop", True)  # `_agree` hears it, here and elsewhere
        else:
            self._requested.set()

    def _agree(self, news: Any) -> None:
        """Finds the first place that no process has passed; in each, once one has asked."""
        del news
        with self._agreeing, contextlib.suppress(jax.errors.JaxRuntimeError):
            coordination.tell("place", self._place)  # nobody goes on before all have told theirs
            places = [coordination.ask("place", n, _DAY) for n in range(jax.process_count())]
            self._stop_at = max(places) + 1
        self._requested.set()

    def _note(self, pipe: int) -> None:
        """Takes the numbers of signals from a pipe until it is closed."""
        seen = set()
        while number := os.read(pipe, 1):
            alone = not coordination.is_job()
            if alone and not is_program():
                continue  # the handler sees to it, and whoever imports the package goes on
            if number[0] in seen and alone:
                leave(128 + number[0])
            if number[0] in _NUMBERS:
                seen.add(number[0])
                self.request()
        os.close(pipe)


def _end_job(reason: str) -> NoReturn:
    print(f"{'this process' if coordination.is_job() else 'the run'} {reason}", flush=True)
    end_job(reason, STOPPED)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Turns signals into requests to stop; outside the main thread it leaves them alone.

    In a process that works alone a second signal kills. Where the package was imported, as in a
    notebook, a second one does what it did before, and so does the first if nothing would be lost:
    Ctrl-C raises KeyboardInterrupt.
    """
    stop = StopRequests()
    if coordination.is_job():
        coordination.on_news("stop", stop._agree)
    if threading.current_thread() is threading.main_thread():
        with _signals(stop):
            yield stop
    else:
        yield stop


@contextlib.contextmanager
def _signals(stop: StopRequests) -> Iterator[None]:
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _NUMBERS}

    def request(number: int, frame: FrameType | None) -> None:
        """What the thread does as well, but before the main thread goes on."""
        del frame
        if coordination.is_job():
            return
        if not stop.at_once:
            stop.request()
            signal.signal(number, before[number])
        elif not is_program():
            signal.signal(number, before[number])
            signal.raise_signal(number)

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fd_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=stop._note, args=(reading,), name="signals", daemon=True).start()
    for number in _NUMBERS:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number in _NUMBERS:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(fd_before)
        os.close(writing)

"""How a process ends early: what it gives back, and what it tells the others of its job.

Who fails tells the coordinator why. Every process of the job hears it in a thread, says it and
ends, wherever it stands: in a collective, at a barrier, or without input.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

import jax

from imagenet_jax.errors import STOPPED
from imagenet_jax.hosts import coordination

_LAST_WORDS = 3.0  # seconds that the others get to hear why one of them ends
_MOST_SECONDS = 20.0  # for what is given back and printed at the end
_cleanups: list[Callable[[], None]] = []
_ending = threading.Event()  # this process says itself why it ends
_heard = threading.Event()  # another one has said why all end


@contextlib.contextmanager
def giving_back(cleanup: Callable[[], None]) -> Iterator[None]:
    """Calls `cleanup` at the end, also if the process is ended by `leave` within."""
    _cleanups.append(cleanup)
    try:
        yield
    finally:
        _cleanups.remove(cleanup)
        cleanup()


def leave_soon(status: int) -> None:
    """Ends the process in a few seconds, where what comes before may hang: a pipe that nobody
    reads, a file system that does not answer."""
    timer = threading.Timer(_MOST_SECONDS, os._exit, [status])
    timer.daemon = True
    timer.start()


def leave(status: int) -> NoReturn:
    """Ends the process from any thread, without waiting for its others."""
    leave_soon(status)
    for cleanup in list(_cleanups):
        with contextlib.suppress(Exception):
            cleanup()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def end_job(reason: str, status: int) -> NoReturn:
    """Ends this process with `status`, and with it all others of its job, which say `reason`.

    The caller has said it for this one.
    """
    _ending.set()
    if coordination.is_job():
        news = {"process": jax.process_index(), "reason": reason, "status": status}
        coordination.announce("ending", news)
        # Who is left alone in a collective before it hears why would say something else.
        _await_all("heard", range(jax.process_count()), _LAST_WORDS)
        _leave_together(status)
    leave(status)


def await_ending(seconds: float) -> None:
    """Gives the time to hear why another process ended, where this one saw a consequence."""
    _heard.wait(seconds)
    if _heard.is_set():
        threading.Event().wait()  # the thread that heard it ends the process


def listen() -> None:
    """From now on this process ends when another one of its job says that it does."""
    coordination.on_news("ending", _end_too)


def _end_too(news: dict[str, Any]) -> None:
    _await_all("heard", (), 0)
    if _ending.is_set():  # as all do if each finds the same fault
        return
    _heard.set()
    if news["status"] == STOPPED:
        print(f"process {news['process']} {news['reason']}", flush=True)
    else:
        reason = f"error: process {news['process']} failed: {news['reason']}"
        print(reason, file=sys.stderr, flush=True)
    _leave_together(news["status"])


def _leave_together(status: int) -> NoReturn:
    """Leaves; process 0, with whom the coordinator goes, as the last: JAX aborts who is left."""
    first = jax.process_index() == 0
    _await_all("left", range(1, jax.process_count()) if first else (), 2 * _LAST_WORDS)
    leave(status)


def _await_all(what: str, processes: Collection[int], seconds: float) -> None:
    """Tells it of this process, and returns when these have told it too, or after a time."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # the coordinator is gone
        coordination.tell(what, True)
        while set(processes) - coordination.told(what).keys() and time.monotonic() < deadline:
            time.sleep(0.05)

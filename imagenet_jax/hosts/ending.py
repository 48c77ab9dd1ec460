"""How a process ends early: what it gives back, and what it tells the others of its job.

Who fails tells the coordinator why. In every process of the job a thread waits for such news, says
it and ends its process, wherever that stands: in a collective, at a barrier, or without input.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax

from imagenet_jax.errors import STOPPED
from imagenet_jax.hosts import coordination

_LAST_WORDS = 3.0  # seconds that the others get to hear why one of them ends
_cleanups: list[Callable[[], None]] = []
_ending = threading.Event()  # this process says itself why it ends


@contextlib.contextmanager
def giving_back(cleanup: Callable[[], None]) -> Iterator[None]:
    """Calls `cleanup` at the end, also if the process is ended by `leave` within."""
    _cleanups.append(cleanup)
    try:
        yield
    finally:
        _cleanups.remove(cleanup)
        cleanup()


def leave(status: int) -> NoReturn:
    """Ends the process from any thread, without waiting for its others."""
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
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the coordinator is gone
            _await_others()
    leave(status)


def await_ending(seconds: float) -> None:
    """Gives another process the time to say why it ended, of which this one saw a consequence."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        coordination.heard("ending", seconds)
        time.sleep(2 * _LAST_WORDS)  # the thread that waits for it says it, and ends the process


def listen() -> None:
    """Starts the thread that ends this process when another one of its job says that it ends."""
    threading.Thread(target=_listen, name="news of the job", daemon=True).start()


def _listen() -> None:
    news = coordination.await_news("ending")
    if news is None:
        return
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        coordination.tell("heard", True)
        if not _ending.is_set():
            _say(news)
            if jax.process_index() == 0:  # the coordinator, without whom the others hear nothing
                _await_others()
    if not _ending.is_set():
        leave(news["status"])


def _say(news: dict[str, Any]) -> None:
    if news["status"] == STOPPED:
        print(f"process {news['process']} {news['reason']}", flush=True)
    else:
        reason = f"error: process {news['process']} failed: {news['reason']}"
        print(reason, file=sys.stderr, flush=True)


def _await_others() -> None:
    """Returns when every process has heard it, or after a time."""
    deadline = time.monotonic() + _LAST_WORDS
    while len(coordination.told("heard")) < jax.process_count() and time.monotonic() < deadline:
        time.sleep(0.05)

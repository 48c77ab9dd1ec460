"""Notices that a run hangs, says where, and ends the process so that a launcher can start anew.

The loop says what it is about to do (`doing`); a thread looks whether it ever gets further.
"""

import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from imagenet_jax.errors import HUNG
from imagenet_jax.hosts import coordination
from imagenet_jax.hosts.ending import leave, leave_soon

_activity = ("starting", time.monotonic(), False)


def doing(what: str, *, limited: bool = True) -> None:
    """Says what the process does from now on; `limited`: it hangs if that takes too long."""
    global _activity
    _activity = (what, time.monotonic(), limited)


@contextlib.contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Ends the process with status `errors.HUNG` if one thing takes so long; 0: never.

    Before, it prints what every process of the job was last known to do, and where each
    thread of this one stands. What is not limited, such as compiling, may take any time.
    """
    doing("starting", limited=False)
    if not seconds:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(seconds, ended), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(seconds: float, ended: threading.Event) -> None:
    teller = None
    while not ended.wait(min(seconds / 10, 10.0)):
        what, since, limited = _activity
        took = time.monotonic() - since
        if limited and took > seconds:
            _end(what, seconds)
        if teller is None or not teller.is_alive():
            activity = f"{what}, for {took:.0f} s"
            teller = _aside(lambda activity=activity: coordination.tell("activity", activity))


def _end(what: str, seconds: float) -> None:
    """Prints what is known and leaves at once: nothing that hangs can be cleaned up."""
    leave_soon(HUNG)
    own, told = jax.process_index(), {}
    _aside(lambda: told.update(coordination.told("activity"))).join(timeout=5)
    lines = [
        f"process {own} hangs: {seconds:g} s without getting beyond {what}; if it is only slow, "
        "raise config.hang_timeout"
    ]
    lines += [
        f"process {process} last said: {activity}"
        for process, activity in sorted(told.items())
        if process != own
    ]
    print("".join(f"watchdog: {line}\n" for line in lines), file=sys.stderr, flush=True)
    faulthandler.dump_traceback(all_threads=True)
    leave(HUNG)


def _aside(call: Callable[[], None]) -> threading.Thread:
    """Runs a call to the coordinator, which may itself be gone or hang, in a thread."""

    def run() -> None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            call()

    thread = threading.Thread(target=run, name="watchdog's call", daemon=True)
    thread.start()
    return thread

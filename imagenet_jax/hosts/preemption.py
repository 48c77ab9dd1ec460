"""SIGTERM and SIGINT ask a run to save and stop at the end of the step."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Gives a function of the step that tells whether to stop after it.

    With several processes it is JAX's preemption service that catches SIGTERM and makes all
    of them agree on the step; SIGINT is passed on to it. With one process the first signal
    asks and a second one kills. Outside the main thread signals are left alone.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if jax.process_count() > 1:
        if in_main_thread:
            signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        yield multihost_utils.reached_preemption_sync_point
        return
    if not in_main_thread:
        yield lambda step: False
        return
    requested = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def request(number: int, frame: FrameType | None) -> None:
        del frame
        requested.set()
        signal.signal(number, before[number])

    for number in numbers:
        signal.signal(number, request)
    try:
        yield lambda step: requested.is_set()
    finally:
        for number in numbers:
            signal.signal(number, before[number])

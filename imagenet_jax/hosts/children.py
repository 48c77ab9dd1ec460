"""Processes that do not outlive the one that started them."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1  # of Linux' prctl


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT, and the SIGHUP of a terminal that is closed, unless nohup has it ignored."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return tuple(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)


def start_child(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """Starts a process in a session of its own, which Ctrl-C does not reach.

    On Linux it gets SIGTERM, and so saves and stops, when this process ends in whatever way.

    Args:
      command: what it runs.
      options: of subprocess.Popen.
    """
    before = functools.partial(_end_with, os.getpid()) if sys.platform == "linux" else None
    return subprocess.Popen(command, start_new_session=True, preexec_fn=before, **options)


def _end_with(parent: int) -> None:
    """Runs in the child, before its program."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended in between
        os.kill(os.getpid(), signal.SIGTERM)

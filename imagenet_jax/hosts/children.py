"""Processes that do not outlive the one that started them, and the signals that ask for an end."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_PARENT = "IMAGENET_JAX_PARENT"  # the environment variable that tells a child who started it
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT, and the SIGHUP of a terminal that is closed, unless nohup has it ignored."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return tuple(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)


def start_child(
    command: Sequence[str], env: Mapping[str, str] = os.environ, **options: Any
) -> subprocess.Popen:
    """Starts a process in a session of its own, which Ctrl-C does not reach.

    Args:
      command: what it runs; launch.py calls `end_with_parent`.
      env: its environment.
      options: of subprocess.Popen.
    """
    env = {**env, _PARENT: str(os.getpid())}
    return subprocess.Popen(command, env=env, start_new_session=True, **options)


def end_with_parent() -> None:
    """Lets Linux send SIGTERM when the process ends, in whatever way, that `start_child` was in.

    The child does it itself: code between fork and exec could hang where threads hold locks.
    """
    parent = os.environ.pop(_PARENT, "")
    if parent.isdecimal() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it has ended in between
            os.kill(os.getpid(), signal.SIGTERM)

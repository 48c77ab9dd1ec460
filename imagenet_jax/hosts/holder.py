"""Who holds a lock, and whether that process still lives."""

import contextlib
import dataclasses
import json
import os
import shlex
import socket
import sys
import time
import uuid
from pathlib import Path

from imagenet_jax.printable import printable


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Attributes:
      host: name of its machine.
      machine: which machine that is, for several may have one name; "" if it does not say.
      boot: which of the machine's boots; "" if it does not say.
      namespace: of its process numbers, which a container has of its own; "" if not known.
      pid: process number.
      started: when the process began, in ticks since the boot; "" if not known.
      since: local date and time at which it took the lock.
      command: its command line.
      token: of this lock alone.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str
    since: str
    command: str
    token: str

    def __str__(self) -> str:
        return printable(f"process {self.pid} on {self.host} since {self.since}: {self.command}")

    def is_alive(self) -> bool | None:
        """Whether it still runs; None: not to be told from here."""
        own = own_holder()
        place = self.host, self.machine, self.boot, self.namespace
        if place == (own.host, own.machine, own.boot, own.namespace):
            return _runs(self.pid) and _started(self.pid) == self.started
        if self.machine and (self.host, self.machine) == (own.host, own.machine):
            return False if self.boot != own.boot else None
        return None


def own_holder() -> Holder:
    """This process, with a new token."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Holder(
        host=socket.gethostname(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=namespace,
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=shlex.join(sys.argv),
        token=uuid.uuid4().hex,
    )


def to_bytes(holder: Holder) -> bytes:
    """The content of a lock file."""
    return json.dumps(dataclasses.asdict(holder)).encode()


def from_bytes(content: bytes) -> Holder | None:
    """The holder that a lock file names; None if it was cut short."""
    try:
        holder = Holder(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
    whole = all(isinstance(value, str) for name, value in vars(holder).items() if name != "pid")
    return holder if whole and type(holder.pid) is int and 0 < holder.pid < 2**31 else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _started(pid: int) -> str:
    """When a process began, which tells it from an earlier one of its number; "" if it is over."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()  # its name may hold spaces
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""

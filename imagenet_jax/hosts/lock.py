"""One run per working directory: WORKDIR/run.lock names the process that trains there.

The file appears whole or not at all, as a link to one that is written, which is atomic on network
file systems too. Who is at work touches it. Of a holder on this machine the process tells whether
it lives, of another the touches do. A dead one's lock is taken over.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import jax

from imagenet_jax.errors import FAILED, UserError
from imagenet_jax.hosts import coordination
from imagenet_jax.hosts.ending import end_job, giving_back
from imagenet_jax.hosts.holder import from_bytes, own_holder, to_bytes

NAME = "run.lock"
BEAT, STALE = 15.0, 90.0  # seconds between touches, and without one until a holder counts as dead
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_number = itertools.count()


@contextlib.contextmanager
def workdir_lock(workdir: Path) -> Iterator[None]:
    """Holds the lock of an existing working directory; all processes of a job share one.

    Process 0 takes it and the others wait for its word. A holder on this machine is refused or
    replaced at once; one on another machine when it is heard of again, or not for `STALE` seconds.

    Raises:
      UserError: in every process, with the holder, if another run is at work there.
    """
    key, refusal = f"lock/{next(_number)}", ""
    if jax.process_index() == 0:
        try:
            lock = Lock(workdir / NAME)
        except UserError as error:
            refusal = str(error)
        coordination.tell(key, refusal)
    elif coordination.is_job():
        refusal = coordination.ask(key, 0, timeout=4 * STALE)
    if refusal:
        raise UserError(refusal)
    with giving_back(lock.release) if jax.process_index() == 0 else contextlib.nullcontext():
        yield


def run_at_work(workdir: Path) -> str:
    """Who trains in a working directory just now, or ""; writes nothing there."""
    path = workdir / NAME
    try:
        holder, silent = from_bytes(path.read_bytes()), time.time() - path.stat().st_mtime
    except OSError:
        return ""
    alive = holder.is_alive() if holder else None
    at_work = silent < STALE if alive is None else alive
    return str(holder or "a run that it does not name") if at_work else ""


class Lock:
    """A lock file that this process holds; a thread touches it until `release`."""

    def __init__(self, path: Path):
        """Takes the lock. Raises UserError if a living process has it, or the disk fails."""
        self._path, self._content = path, to_bytes(own_holder())
        self._ended, self._busy = threading.Event(), threading.Lock()
        try:
            while not _create(path, self._content) and not self._take_over():
                continue
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error}") from error
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def release(self) -> None:
        """Gives the lock back."""
        self._ended.set()
        with self._busy, contextlib.suppress(OSError):
            if _read(self._path) == self._content:
                self._path.unlink()

    def _take_over(self) -> bool:
        """Puts this lock in place of a dead holder's; False: look again."""
        found = _read(self._path)
        if found is None or not _replace_dead(self._path, found, self._content):
            return False
        print(f"took over {self._path} from {from_bytes(found) or 'a dead run'}", flush=True)
        return True

    def _beat(self) -> None:
        """Touches the file; ends the process if it is another's, who now writes beside it."""
        while not self._ended.wait(BEAT):
            other = b""
            with contextlib.suppress(OSError):  # a file system may be away for a while
                other = self._touch()
            if other:
                taken = f"{self._path} was taken over by {from_bytes(other) or 'another run'}"
                print(f"error: {taken}", file=sys.stderr, flush=True)
                end_job(taken, FAILED)

    def _touch(self) -> bytes:
        """Touches the file, or makes it again if it is gone; what another wrote there, if so."""
        with self._busy:
            found = _read(self._path)
            if self._ended.is_set():
                return b""
            if found == self._content or (found is None and _create(self._path, self._content)):
                os.utime(self._path)
                return b""
            return found or b""


def _replace_dead(path: Path, found: bytes, content: bytes) -> bool:
    """Puts `content` in place of `found`, a dead holder's; False: look again.

    Of several that find the holder dead one goes on: who holds the claim, a file that is named
    after what was found. A claim whose holder died is taken over in the same way: if it were just
    removed, that of the next one could be, who has made it meanwhile.

    Raises:
      UserError: as soon as the holder, or that of the claim, is known to live.
    """
    _await_death(path, found)
    claim = path.with_name(f"{path.name}.{hashlib.sha256(found).hexdigest()[:16]}")
    if not _create(claim, content):
        other = _read(claim)
        if other is None or not _replace_dead(claim, other, content):
            return False
    still = _read(path) == found  # else somebody was here before the claim
    if still:
        _write(path, content)
    claim.unlink(missing_ok=True)
    return still


def _await_death(path: Path, content: bytes) -> None:
    """Returns when the holder is dead. Raises UserError as soon as it is known to live."""
    holder = from_bytes(content)
    alive = holder.is_alive() if holder else None
    touched, silent = _last_touch(path)
    if alive is None and silent < STALE:
        print(
            f"{path} belongs to {holder or 'a run that it does not name'}, last heard of "
            f"{silent:.0f} s ago: waiting up to {STALE - silent:.0f} s to see whether it lives",
            flush=True,
        )
    before = touched
    while alive is None and silent < STALE:
        time.sleep(min(0.5, BEAT / 5))
        if _read(path) != content:
            return
        touched, silent = _last_touch(path)
        alive = True if touched != before else None
    if alive:
        raise UserError(
            f"--workdir={path.parent} is in use by {holder or 'another run'}. Use another "
            "--workdir, or end that run first"
        )


def _last_touch(path: Path) -> tuple[float, float]:
    """When a file was last touched, and seconds since, both by the clock of its file system."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        touched = path.stat().st_mtime
        return touched, probe.stat().st_mtime - touched
    except FileNotFoundError:  # given back meanwhile
        return 0.0, float("inf")
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """A file with this content beside `path`, on the disk."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Replaces a file in one go."""
    with _written(path, content) as partial:
        partial.replace(path)


def _create(path: Path, content: bytes) -> bool:
    """Makes a file in one go; False if there is one."""
    with _written(path, content) as partial:
        try:
            os.link(partial, path)
            return True
        except FileExistsError:
            return _read(path) == content  # NFS may lose the answer to a first try
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    try:
        with path.open("xb") as file:
            file.write(content)
        return True
    except FileExistsError:
        return False

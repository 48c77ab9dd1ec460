"""Random access to TFRecord files, through an index of where their records begin.

A TFRecord is: length uint64, its masked CRC32C, data, the data's masked CRC32C; all little
endian. Making the index reads 12 bytes of each record, once; then any record is one read. So
a data set that was made for shuffle buffers gets a global shuffle, and starts at any step.
"""

import functools
import mmap
import os
import resource
import shlex
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crc32c
import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.errors import DataError

_HEADER, _FOOTER = 12, 4
_GZIP, _BEGINNING = b"\x1f\x8b", 4096  # how a compressed file begins; bytes that tell


class TFRecords:
    """The records of parts of several files, numbered through; see `records.Records`."""

    def __init__(self, parts: Sequence[tuple[str, int, int]]):
        """Takes `take` records (-1: all) after the first `skip` of each (path, skip, take).

        Files may be empty; `empty` names those without any record.

        Raises:
          DataError: for a file that is missing, damaged, compressed or has fewer records.
        """
        paths = [path for path, _, _ in parts]
        with ThreadPoolExecutor(16) as pool:
            begins = list(pool.map(record_offsets, paths))
        self._paths, offsets, shards = paths, [], []
        self.empty = [path for path, begin in zip(paths, begins, strict=True) if len(begin) == 1]
        for shard, ((path, skip, take), begin) in enumerate(zip(parts, begins, strict=True)):
            stop = len(begin) - 1 if take < 0 else skip + take
            if stop > len(begin) - 1:
                raise DataError(
                    f"{path} has {len(begin) - 1} records, {stop} are needed: it is cut short or "
                    "belongs to another version of the data set"
                )
            offsets.append(np.stack([begin[skip:stop], begin[skip + 1 : stop + 1]], 1))
            shards.append(np.full(stop - skip, shard, np.int32))
        self._span = np.concatenate(offsets) if offsets else np.zeros((0, 2), np.int64)
        self._shard = np.concatenate(shards) if shards else np.zeros(0, np.int32)
        # A file that is dropped is closed after its last reader.
        self._open = functools.lru_cache(maxsize=most_open_files())(_open)

    def __len__(self) -> int:
        return len(self._shard)

    def get(self, index: Sequence[int]) -> list[bytes | memoryview]:
        """The records of these numbers. Raises DataError for one that is damaged."""
        return [self._read(int(number)) for number in index]

    def where(self, number: int) -> str:
        """The file and the byte where a record begins."""
        return f"{self._paths[self._shard[number]]}, byte {self._span[number, 0]}"

    def _read(self, number: int) -> bytes | memoryview:
        begin, end = self._span[number].tolist()
        read = self._open(self._paths[self._shard[number]])
        data = read(begin + _HEADER, end - begin - _HEADER - _FOOTER)
        if _masked_crc(data) != read(end - _FOOTER, _FOOTER):
            raise DataError(f"{self.where(number)}: damaged record: its checksum is wrong")
        return data


def most_open_files() -> int:
    """Half of the files that this process may have open."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65_536) // 2


def record_offsets(path: str) -> np.ndarray:
    """Where the records of a file begin, and its end: int64 [records + 1].

    It is kept in FILE.offsets.npy beside the file, or, where that cannot be written, in the
    user's cache directory, and made anew when the file's size or time of change differs.

    Raises:
      DataError: for a file that is missing, compressed or damaged, with the byte.
    """
    try:
        facts = tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        raise DataError(f"{path}: {error.message}") from error
    if not facts.length:
        return np.zeros(1, np.int64)
    stamp = np.array([facts.length, facts.mtime_nsec], np.int64)
    for index in _index_paths(path):
        stored = _stored(index, stamp)
        if stored is not None:
            return stored
    offsets = _scan(path, facts.length)
    for index in _index_paths(path):
        if _saved(index, np.concatenate([stamp, offsets])):
            break
    return offsets


def _stored(index: Path, stamp: np.ndarray) -> np.ndarray | None:
    """The offsets of an index file; None if it has none of the file of this stamp."""
    try:
        # Mapped: a header that claims terabytes is refused before memory is taken.
        stored = np.load(index, mmap_mode="r", allow_pickle=False)
    except Exception:  # NumPy raises any kind for a damaged one, which is made anew
        return None
    if stored.dtype != np.int64 or stored.ndim != 1 or len(stored) < 4:
        return None
    offsets = np.array(stored[2:])
    rising = offsets[0] == 0 and (offsets[1:] > offsets[:-1]).all() and offsets[-1] == stamp[0]
    return offsets if rising and (stored[:2] == stamp).all() else None


def _scan(path: str, size: int) -> np.ndarray:
    """Walks over the headers of all records."""
    read, at, offsets = _open(path), 0, [0]
    while at < size:
        header = read(at, _HEADER)
        if len(header) < _HEADER or _masked_crc(header[:8]) != header[8:]:
            _check_compression(path, bytes(read(0, _BEGINNING)))
            raise DataError(f"{path}, byte {at}: damaged or no TFRecord file")
        at += _HEADER + struct.unpack("<Q", header[:8])[0] + _FOOTER
        if at > size:
            raise DataError(
                f"{path}, byte {offsets[-1]}: the file ends within this record, at {size}"
            )
        offsets.append(at)
    return np.array(offsets, np.int64)


def _check_compression(path: str, beginning: bytes) -> None:
    """Raises DataError for a file that begins as TensorFlow's compressed ones, with the remedy."""
    if beginning.startswith(_GZIP):
        kind, program = "GZIP", "gzip -dc"
    elif _is_zlib(beginning):
        code = "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))"
        kind, program = "ZLIB", f'python3 -c "{code}"'
    else:
        return
    remote = "://" in path
    files = "FOLDER" if remote else shlex.quote(path.rpartition("/")[0] or ".")
    command = f'for f in {files}/*-of-*; do {program} < "$f" > "$f.tmp" && mv "$f.tmp" "$f"; done'
    if path.endswith(".gz"):
        command = f"gunzip {files}/*-of-*.gz"
    raise DataError(
        f"{path} is compressed ({kind}). Records are read by their number, in any order, for which "
        f"the files must not be: {'copy them to a FOLDER here and ' * remote}run\n  {command}"
    )


def _is_zlib(beginning: bytes) -> bool:
    stream = zlib.decompressobj()
    try:
        return bool(stream.decompress(beginning)) or stream.eof
    except zlib.error:
        return False


def _index_paths(path: str) -> list[Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    elsewhere = (
        Path(cache) / "imagenet_jax" / "offsets" / f"{path.strip('/').replace('/', '%')}.npy"
    )
    return [elsewhere] if "://" in path else [Path(f"{path}.offsets.npy"), elsewhere]


def _saved(path: Path, array: np.ndarray) -> bool:
    """Writes in one go; False where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, array)
    except OSError:
        return False
    return True


def _open(path: str) -> Callable[[int, int], bytes | memoryview]:
    """A function (offset, size) that gives bytes of a file; threads may share it.

    Local files are mapped: that saves a copy, which for raw images is a fourth of all CPU time.
    """
    if "://" not in path:
        with open(path, "rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return lambda offset, size: view[offset : offset + size]

    def read(offset: int, size: int) -> bytes:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def _masked_crc(data: bytes | memoryview) -> bytes:
    crc = crc32c.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

"""Zip archives of arrays, .pth and .npz: none takes more memory than its size justifies."""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

from imagenet_jax.errors import WeightsError

# Weights hardly shrink; arrays of zeros, as initial biases are, shrink to a thousandth.
MOST_RATIO = 20
_SMALL = 2**26  # bytes that any archive may take
# What reading a damaged file raises beside WeightsError; the last two are of npy headers.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, LookupError, TypeError, ValueError),
    *(AttributeError, OverflowError, MemoryError, RuntimeError, struct.error),
    *(tokenize.TokenError, SyntaxError),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Opens an archive whose members can be read, all of them, in memory.

    Raises:
      WeightsError: for a member that is encrypted or compressed by an unknown method, or if they
        are far larger than the file.
      zipfile.BadZipFile, OSError: for no archive.
    """
    archive = zipfile.ZipFile(path)
    total, size = 0, path.stat().st_size
    for member in archive.infolist():
        name = member.filename[:80]
        if member.flag_bits & 1:
            raise WeightsError(f"{name!r} in it is encrypted; store it without a password")
        if member.compress_type not in _METHODS:
            raise WeightsError(f"{name!r} in it is compressed by an unknown method; store it")
        if member.compress_size > size:
            raise WeightsError(f"{name!r} in it is said to be larger than the file: it is damaged")
        total += member.file_size
    if total > max(_SMALL, MOST_RATIO * size):
        raise WeightsError(f"its {size} bytes hold {total}, more than weights can be compressed")
    return archive

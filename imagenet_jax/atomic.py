"""Files that are whole or not there, whoever else writes them and whatever ends the process."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives another name, to write a file under; at the end it becomes `path` in one go.

    The name is of this process alone, and nothing is left of a file that could not be written. A
    link stays one, to the new file. What is no regular file, as /dev/stdout, is written to itself.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    # Not the whole name, which may be as long as can be.
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8 that is on the disk when it gets its name."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        with contextlib.suppress(OSError):  # a pipe or a terminal has no disk
            os.fsync(file.fileno())

"""Images in folders, zip archives and CSV lists.

Folders and archives hold SPLIT/CLASS/IMAGE, or without splits CLASS/IMAGE or files called
nXXXXXXXX_*.JPEG as ImageNet's are; what has no splits is the split "train". A folder around
all of it does not matter. Classes are in alphabetical order, those of all splits together, so
that a label means the same in each.
"""

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from imagenet_jax.data.names import existing
from imagenet_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
DEFAULT_SPLIT = "train"
_SYNSET = re.compile(r"(n\d{8})_")


class Entry(NamedTuple):
    """An image file and what it is an example of."""

    split: str
    class_name: str
    path: str


class FileSource:
    """A split of a folder, an archive or a list; see `source.EncodedSource`."""

    def __init__(
        self, root: str, split: str, entries: list[Entry], read_file: Callable[[str], bytes]
    ):
        """Takes the entries of a split, in the order of their paths.

        Raises:
          DataError: if the split has no images.
        """
        self.class_names = tuple(sorted({entry.class_name for entry in entries}, key=_class_order))
        label_of = {name: label for label, name in enumerate(self.class_names)}
        mine = sorted((entry.path, entry.class_name) for entry in entries if entry.split == split)
        if not mine:
            splits = ", ".join(sorted({entry.split for entry in entries})) or "none"
            raise DataError(
                f"{root}: no images in {split}/CLASS/IMAGE (splits found: {splits}; image "
                f"suffixes: {' '.join(IMAGE_SUFFIXES)}). Set data.train_split and data.eval_split"
            )
        self._root = root
        self._names = [path for path, _ in mine]
        self._labels = np.array([label_of[name] for _, name in mine], np.int32)
        self._read_file = read_file

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        return [self._read_file(self._names[i]) for i in index], self._labels[index]

    def name(self, index: int) -> str:
        return self._names[index]

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._names[index]}"


def open_files(kind: str, path: str, split: str) -> FileSource:
    """A split of `folder:PATH`, `zip:PATH` or `csv:PATH`; see there for the errors."""
    return {"folder": open_folder, "zip": open_zip, "csv": open_csv}[kind](path, split)


def file_splits(kind: str, path: str) -> list[str]:
    """The names of the splits of `folder:PATH`, `zip:PATH` or `csv:PATH`."""
    entries, _, _ = {"folder": _folder, "zip": _zip, "csv": _csv}[kind](path)
    return sorted({entry.split for entry in entries})


def open_folder(path: str, split: str) -> FileSource:
    """The images below PATH. Raises DataError if PATH is not a folder or lacks the split."""
    entries, read_file, root = _folder(path)
    return FileSource(root, split, entries, read_file)


def open_zip(path: str, split: str) -> FileSource:
    """The images of an archive. Raises DataError if it is missing, damaged or lacks the split."""
    entries, read_file, root = _zip(path)
    return FileSource(root, split, entries, read_file)


def open_csv(path: str, split: str) -> FileSource:
    """The images of a list with the columns path, label and, if there are splits, split.

    Paths are relative to the list's folder. Labels are names of classes, or whole numbers from
    0 on, all of them.

    Raises:
      DataError: naming the line, for a missing file or an impossible label.
    """
    entries, read_file, root = _csv(path)
    return FileSource(root, split, entries, read_file)


def _folder(path: str) -> tuple[list[Entry], Callable[[str], bytes], str]:
    root = existing("folder", path)
    names = (p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return _entries(names), lambda name: (root / name).read_bytes(), str(root)


def _zip(path: str) -> tuple[list[Entry], Callable[[str], bytes], str]:
    file = existing("zip", path)
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"data.name = 'zip:{path}': {error}") from error

    def read_file(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(str(error)) from error  # as a damaged file of a folder gives

    return _entries(archive.namelist()), read_file, str(file)


def _csv(path: str) -> tuple[list[Entry], Callable[[str], bytes], str]:
    file = existing("csv", path)
    root, entries = file.parent, []
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, skipinitialspace=True)
        lacking = {"path", "label"} - set(reader.fieldnames or ())
        if lacking:
            raise DataError(
                f"{file}, line 1: no column {' and '.join(sorted(lacking))}; the first line must "
                "be path,label or path,label,split"
            )
        for row in reader:
            where, label = f"{file}, line {reader.line_num}", (row["label"] or "").strip()
            if not label:
                raise DataError(f"{where}: no label; expected the name of a class or a number")
            if not row["path"] or not (root / row["path"]).is_file():
                raise DataError(f"{where}: there is no file {root / (row['path'] or '')}")
            entries.append(Entry(row.get("split") or DEFAULT_SPLIT, label, row["path"]))
    _check_numbers(file, {entry.class_name for entry in entries})
    return entries, lambda name: (root / name).read_bytes(), str(root)


def _check_numbers(file: Path, labels: set[str]) -> None:
    """Labels that are numbers must be 0 to K - 1: what is left out is most likely a mistake."""
    if not labels or not all(re.fullmatch(r"-?\d+", label) for label in labels):
        return
    expected = {str(number) for number in range(len(labels))}
    if labels != expected:
        odd = min(labels - expected, key=int)
        raise DataError(
            f"{file}: label {odd} is out of range; {len(labels)} different numbers must be 0 to "
            f"{len(labels) - 1}"
        )


def _class_order(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else 0, name)


def _entries(names: Iterable[str]) -> list[Entry]:
    """The images among files (paths with /) of the deepest layout that is found."""
    paths = {name: PurePosixPath(name).parts for name in names if _is_image(name)}
    depth = max(map(len, paths.values()), default=0)
    while depth > 3 and len({path[0] for path in paths.values()}) == 1:  # a folder around it all
        paths = {name: path[1:] for name, path in paths.items()}
        depth -= 1
    if depth > 3:
        deep = next(name for name, path in paths.items() if len(path) > 3)
        raise DataError(f"{deep}: images must be in SPLIT/CLASS/IMAGE or CLASS/IMAGE, not deeper")
    if depth == 3:
        return [Entry(*path[:2], name) for name, path in paths.items() if len(path) == 3]
    synset_of = {name: _SYNSET.match(path[-1]) for name, path in paths.items()}
    if len({path[:-1] for path in paths.values()}) == 1 and any(synset_of.values()):
        found = [(match, name) for name, match in synset_of.items() if match]
        return [Entry(DEFAULT_SPLIT, match[1], name) for match, name in found]
    return [Entry(DEFAULT_SPLIT, path[0], name) for name, path in paths.items() if len(path) == 2]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # macOS keeps "._1.jpg", no image, beside "1.jpg", and in archives below "__MACOSX"
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden

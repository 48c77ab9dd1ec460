"""Images in folders, zip archives and CSV lists.

Folders and archives hold SPLIT/CLASS/IMAGE, or without splits CLASS/IMAGE or files called
nXXXXXXXX_*.JPEG as ImageNet's are; what has no splits is the split "train". A folder around
all of it does not matter. Classes are in alphabetical order, those of all splits together, so
that a label means the same in each. Where images have several labels they stand in files of their
own, see `label_files`, or in a cell of the list, as "cat;dog".
"""

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from absl import logging

from imagenet_jax.data.names import existing
from imagenet_jax.data.sources.classes import ONE, SEVERAL, class_field
from imagenet_jax.data.sources.label_files import labelled, split_labels
from imagenet_jax.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
DEFAULT_SPLIT = "train"
_SYNSET = re.compile(r"(n\d{8})_")


class Entry(NamedTuple):
    """An image file and what it is an example of."""

    split: str
    class_names: tuple[str, ...]
    path: str


class Listing(NamedTuple):
    """The images of all splits, and how to read them.

    Attributes:
      root: the folder, archive or list, for messages.
      entries: of the images.
      read_file: the bytes of a path.
      class_names: in their order; (): those of the entries, in alphabetical order.
    """

    root: str
    entries: list[Entry]
    read_file: Callable[[str], bytes]
    class_names: tuple[str, ...] = ()


class FileSource:
    """A split of a folder, an archive or a list; see `source.EncodedSource`."""

    def __init__(self, listing: Listing, split: str, reads: Sequence[str]):
        """Takes the entries of a split, in the order of their paths.

        Raises:
          DataError: if the split has no images.
        """
        entries, root = listing.entries, listing.root
        found = {name for entry in entries for name in entry.class_names}
        self.class_names = listing.class_names or tuple(sorted(found, key=_class_order))
        label_of = {name: label for label, name in enumerate(self.class_names)}
        mine = sorted((entry.path, entry.class_names) for entry in entries if entry.split == split)
        if not mine:
            splits = ", ".join(sorted({entry.split for entry in entries})) or "none"
            raise DataError(
                f"{root}: no images in {split}/CLASS/IMAGE (splits found: {splits}; image "
                f"suffixes: {' '.join(IMAGE_SUFFIXES)}). Set data.train_split and data.eval_split"
            )
        self._root = root
        self._names = [path for path, _ in mine]
        self._classes = class_field(reads, len(self.class_names), root)
        self.fields = self._classes.fields
        labels = [[label_of[name] for name in names] for _, names in mine]
        self._ends = np.cumsum([len(of_image) for of_image in labels])
        self._labels = np.array([label for of_image in labels for label in of_image], np.int32)
        self._read_file = listing.read_file
        none = sum(not of_image for of_image in labels)
        if none:
            logging.info(
                "%s, split %s: %d of %d images have no label", root, split, none, len(mine)
            )

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: np.ndarray) -> tuple[list[bytes], dict[str, np.ndarray]]:
        files = [self._read_file(self._names[i]) for i in index]
        return files, self._classes.values([self._labels_of(i) for i in index])

    def name(self, index: int) -> str:
        return self._names[index]

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._names[index]}"

    def _labels_of(self, index: int) -> list[int]:
        end = self._ends[index]
        return self._labels[self._ends[index - 1] if index else 0 : end].tolist()


def open_files(kind: str, path: str, split: str, reads: Sequence[str] = (ONE,)) -> FileSource:
    """A split of `folder:PATH`, `zip:PATH` or `csv:PATH`.

    A list has the columns path, label and, if there are splits, split. Paths are relative to the
    list's folder. Labels are names of classes, or whole numbers from 0 on, all of them.

    Args:
      kind, path: of data.name.
      split: its name.
      reads: the field of a batch that says the classes, see `classes.ClassField`.

    Raises:
      DataError: for what is missing or damaged, or a split that is not there; naming the line of
        the list or the file, for a label that cannot be.
    """
    return FileSource(_listing(kind, path, reads), split, reads)


def file_splits(kind: str, path: str, reads: Sequence[str] = (ONE,)) -> list[str]:
    """The names of the splits of `folder:PATH`, `zip:PATH` or `csv:PATH`."""
    return sorted({entry.split for entry in _listing(kind, path, reads).entries})


def _listing(kind: str, path: str, reads: Sequence[str]) -> Listing:
    several = SEVERAL in reads
    if kind == "csv":
        return _csv(path, several)
    root, names, read_file = {"folder": _folder, "zip": _zip}[kind](path)
    if not several:
        return Listing(root, _entries(names), read_file)
    images = [name for name in names if _is_image(name)]
    found, class_names = labelled(root, images, names, read_file)
    return Listing(root, [Entry(*entry) for entry in found], read_file, class_names)


def _folder(path: str) -> tuple[str, list[str], Callable[[str], bytes]]:
    """What it is called, the paths of its files, and how to read them."""
    root = existing("folder", path)
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    return str(root), names, lambda name: (root / name).read_bytes()


def _zip(path: str) -> tuple[str, list[str], Callable[[str], bytes]]:
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

    return str(file), archive.namelist(), read_file


def _csv(path: str, several: bool) -> Listing:
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
            if not label and not several:
                raise DataError(f"{where}: no label; expected the name of a class or a number")
            if not row["path"] or not (root / row["path"]).is_file():
                raise DataError(f"{where}: there is no file {root / (row['path'] or '')}")
            labels = split_labels(label) if several else (label,)
            entries.append(Entry(row.get("split") or DEFAULT_SPLIT, labels, row["path"]))
    joined = next((n for e in entries for n in e.class_names if ";" in n), None)
    if joined:
        logging.warning("%s: %r is one class; config.task = multilabel splits it", file, joined)
    _check_numbers(file, {name for entry in entries for name in entry.class_names})
    return Listing(str(root), entries, lambda name: (root / name).read_bytes())


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
        found = [(path, name) for name, path in paths.items() if len(path) == 3]
        return [Entry(path[0], path[1:2], name) for path, name in found]
    synset_of = {name: _SYNSET.match(path[-1]) for name, path in paths.items()}
    if len({path[:-1] for path in paths.values()}) == 1 and any(synset_of.values()):
        found = [(match, name) for name, match in synset_of.items() if match]
        return [Entry(DEFAULT_SPLIT, (match[1],), name) for match, name in found]
    return [Entry(DEFAULT_SPLIT, path[:1], name) for name, path in paths.items() if len(path) == 2]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # macOS keeps "._1.jpg", no image, beside "1.jpg", and in archives below "__MACOSX"
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden

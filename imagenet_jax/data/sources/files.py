"""Images in folders, zip archives and CSV lists.

How folders and archives are laid out says `layout`. Classes are in alphabetical order, those of all
splits together, so that a label means the same in each. Where images have several labels they stand
in files of their own, see `label_files`, or in a cell of the list, as "cat;dog".
"""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from imagenet_jax.data.names import TEST, VALIDATION, existing, split_there
from imagenet_jax.data.sources.classes import ONE, SEVERAL, class_field
from imagenet_jax.data.sources.csv_list import read_list
from imagenet_jax.data.sources.held_out import HeldOut
from imagenet_jax.data.sources.label_files import labelled
from imagenet_jax.data.sources.layout import (
    BEGINNING,
    DEFAULT_SPLIT,
    Entry,
    LeftOut,
    class_folders,
    find_images,
    image_folders,
    left_out_text,
)
from imagenet_jax.errors import DataError

_HOLD_OUT = (
    ", or hold a part out: data.train_split=train[:90%] and data.eval_split=train[90%:], or "
    "data.folds=10; with train and validation, the defaults, a tenth is"
)
_NO_CLASSES = (
    ". Images without classes are for tasks that learn without labels (config.task = simclr, mae, "
    "...), with config.eval.knn = 0 and config.eval.linear_probe = False"
)
MOST_BYTES = 2**28  # of an image file
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Listing(NamedTuple):
    """The images of all splits, and how to read them.

    Attributes:
      root: the folder, archive or list, for messages.
      entries: of the images.
      read_file: the bytes of a path.
      size_of: the bytes of a path, unread.
      left_out: {reason: paths} of files that are no examples of any split.
      class_names: in their order; (): those of the entries, in alphabetical order.
    """

    root: str
    entries: list[Entry]
    read_file: Callable[[str], bytes]
    size_of: Callable[[str], int]
    left_out: LeftOut
    class_names: tuple[str, ...] = ()

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return sorted({entry.split for entry in self.entries})


class FileSource:
    """A split of a folder, an archive or a list; see `source.EncodedSource`."""

    def __init__(self, listing: Listing, split: str, reads: Sequence[str], default: bool = False):
        """Takes the entries of a split, in the order of their paths; arguments of `open_files`.

        Raises:
          DataError: if the split has no images.
        """
        entries, root = listing.entries, listing.root
        found = {name for entry in entries for name in entry.class_names}
        self.class_names = listing.class_names or tuple(sorted(found, key=_class_order))
        label_of = {name: label for label, name in enumerate(self.class_names)}
        self.split = split = split_there(split, listing.splits, default)
        mine = sorted((entry.path, entry.class_names) for entry in entries if entry.split == split)
        if not mine:
            splits, others = ", ".join(listing.splits) or "none", left_out_text(listing.left_out)
            raise DataError(
                f"{root}: no images in {split}/CLASS/IMAGE (splits found: {splits}"
                + (f"; left out: {others}" if others else "")
                + "). Set data.train_split and data.eval_split"
                + (_HOLD_OUT if listing.splits == [DEFAULT_SPLIT] else "")
                + (_NO_CLASSES if reads and not entries and listing.left_out else "")
            )
        self._root = root
        self._names = [path for path, _ in mine]
        self._classes = class_field(reads, len(self.class_names), root)
        self.fields = self._classes.fields
        labels = [[label_of[name] for name in names] for _, names in mine]
        self._ends = np.cumsum([len(of_image) for of_image in labels])
        self._labels = np.array([label for of_image in labels for label in of_image], np.int32)
        self._read_file, self._size_of = listing.read_file, listing.size_of
        self.left_out = listing.left_out
        none = sum(not of_image for of_image in labels)
        if none and self.fields:
            logging.info(
                "%s, split %s: %d of %d images have no label", root, split, none, len(mine)
            )

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: np.ndarray) -> tuple[list[bytes], dict[str, np.ndarray]]:
        files = [self._read_file(self._names[i]) for i in index]
        return files, self._classes.values([self.labels_of(i) for i in index])

    def name(self, index: int) -> str:
        return self._names[index]

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._names[index]}"

    def stamp(self) -> str:
        """Another one when images come, go or change their size or their classes."""
        facts = hashlib.sha1(repr((self.class_names, self._labels.tolist())).encode())
        for name in self._names:
            facts.update(f"{name}\0{self._size_of(name)}\n".encode())
        return facts.hexdigest()

    def class_counts(self) -> np.ndarray:
        """How many images of the split each class has, int64 [K]."""
        return np.bincount(self._labels, minlength=len(self.class_names))

    def groups(self) -> np.ndarray:
        """The label of each image, int [N]; where it may have several, 0."""
        return self._labels if ONE in self.fields else np.zeros(len(self), np.int32)

    def labels_of(self, index: int) -> list[int]:
        """The numbers of an image's classes."""
        end = self._ends[index]
        return self._labels[self._ends[index - 1] if index else 0 : end].tolist()


def open_files(
    kind: str, path: str, split: str, reads: Sequence[str] = (ONE,), default: bool = False
) -> FileSource | HeldOut:
    """A split of `folder:PATH`, `zip:PATH` or `csv:PATH`.

    Args:
      kind, path: of data.name.
      split: its name.
      reads: the field of a batch that says the classes, see `classes.ClassField`.
      default: whether the split is train or validation because nobody chose it; if there is but
        one split, a tenth of it is validation then.

    Raises:
      DataError: for what is missing or damaged, or a split that is not there; naming the line of
        the list or the file, for a label that cannot be.
    """
    listing = _listing(kind, path, reads)
    if default and len(listing.splits) == 1:
        (whole,) = listing.splits  # or a folder around those of the classes
        if whole.lower() not in (*VALIDATION, *TEST):
            return HeldOut(FileSource(listing, whole, reads), split == DEFAULT_SPLIT)
    return FileSource(listing, split, reads, default)


def file_splits(kind: str, path: str, reads: Sequence[str] = (ONE,)) -> list[str]:
    """The names of the splits of `folder:PATH`, `zip:PATH` or `csv:PATH`."""
    return _listing(kind, path, reads).splits


def _listing(kind: str, path: str, reads: Sequence[str]) -> Listing:
    listing = _listed(kind, existing(kind, path), reads)
    first: dict[str, str] = {}
    for split in listing.splits:
        other = first.setdefault(split.lower(), split)
        if other != split:
            raise DataError(
                f"data.name = '{kind}:{path}' has the splits {other!r} and {split!r}; if they are "
                "one, give them one name"
            )
    return listing


def _listed(kind: str, file: Path, reads: Sequence[str]) -> Listing:
    if kind == "csv":
        files = _below(file.parent, [])
        return Listing(str(file.parent), read_list(file, reads), files.read, files.size_of, {})
    files = (folder_files if kind == "folder" else zip_files)(file)
    for name in files.names:  # they name classes and examples
        if any(ord(letter) in range(0xDC80, 0xDD00) for letter in name):
            raise DataError(f"{file}: the name {os.fsencode(name)!r} is not UTF-8; rename it")
    root, (images, left_out) = str(file), find_images(files.names, files.beginning)
    class_names: tuple[str, ...] = ()
    if SEVERAL in reads:
        found, class_names, others = labelled(root, images, files.names, files.read)
    else:
        found, others = (class_folders if reads else image_folders)(root, images)
    return Listing(root, found, files.read, files.size_of, left_out | others, class_names)


class Files(NamedTuple):
    """What a folder or an archive has."""

    names: list[str]  # with /
    read: Callable[..., bytes]  # of a name, with at most MOST_BYTES or a second argument
    beginning: Callable[[str], bytes]  # the first BEGINNING bytes
    size_of: Callable[[str], int]


def folder_files(root: Path) -> Files:
    """What lies in a folder and below, through links as well. Raises DataError."""
    return _below(root, sorted(_files_below(root, "", frozenset())))


def _below(root: Path, names: list[str]) -> Files:
    """The files of these names below a folder."""

    def read(name: str, most: int = MOST_BYTES) -> bytes:
        with (root / name).open("rb") as file:
            check_bytes(os.fstat(file.fileno()).st_size, most)
            return file.read()

    def beginning(name: str) -> bytes:
        with (root / name).open("rb") as file:
            return file.read(BEGINNING)

    return Files(names, read, beginning, lambda name: (root / name).stat().st_size)


def _files_below(root: Path, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Paths of files, through links as well, but not around in a circle.

    Raises:
      DataError: for a folder that cannot be read.
    """
    try:
        facts = os.stat(root / folder)
        here = (facts.st_dev, facts.st_ino)
        with os.scandir(root / folder) as found:
            entries = list(found)
    except OSError as error:
        raise DataError(f"{root / folder} cannot be read: {error}") from error
    for entry in entries if here not in above else ():
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir():
            yield from _files_below(root, name, above | {here})
        elif entry.is_file():
            yield name


def zip_files(file: Path) -> Files:
    """What is in an archive. Raises DataError."""
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"data.name = 'zip:{file}': {error}") from error
    # Windows' own separator, which the format forbids and some programs write.
    members = {m.filename.replace("\\", "/"): m for m in archive.infolist() if not m.is_dir()}
    for name, member in members.items():
        if member.compress_size > file.stat().st_size:
            raise DataError(f"data.name = 'zip:{file}': damaged at {name}")
        if member.flag_bits & 1:
            raise DataError(f"data.name = 'zip:{file}': {name} is encrypted; unpack the archive")
        if member.compress_type not in _COMPRESSIONS:
            raise DataError(
                f"data.name = 'zip:{file}': {name} is compressed by method {member.compress_type}, "
                "which Python does not know; unpack the archive"
            )

    def begin(name: str, count: int) -> bytes:
        try:
            with archive.open(members[name]) as opened:
                return opened.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise OSError(str(error)) from error  # as a damaged file of a folder gives

    def read(name: str, most: int = MOST_BYTES) -> bytes:
        check_bytes(members[name].file_size, most)
        return begin(name, -1)

    def beginning(name: str) -> bytes:
        try:
            return begin(name, BEGINNING)
        except OSError:
            return b""  # of a damaged file nobody knows what it was

    return Files(list(members), read, beginning, lambda name: members[name].file_size)


def check_bytes(count: int, most: int = MOST_BYTES) -> None:
    """Raises ValueError for a file that is too large, to be an image or for what it is."""
    if count > most:
        raise ValueError(f"it has {count / 2**20:,.0f} MiB, more than {most // 2**20}")


def _class_order(name: str) -> tuple[int, str]:
    return (int(name) if re.fullmatch("[0-9]{1,18}", name) else 0, name)

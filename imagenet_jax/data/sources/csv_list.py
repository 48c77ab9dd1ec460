"""Lists of images: CSV files with a line for each."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from imagenet_jax.data.sources.classes import ONE, SEVERAL
from imagenet_jax.data.sources.label_files import split_labels
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, Entry
from imagenet_jax.errors import DataError

# What the columns may be called, in any case.
_PATH = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
_LABEL = ("label", "labels", "class", "class_name", "classname", "category", "target")
_SPLIT = ("split", "subset", "partition", "is_valid", "is_val")
# Of fastai's column is_valid, in any case.
_IS_VALID = {"true": "validation", "1": "validation", "false": DEFAULT_SPLIT, "0": DEFAULT_SPLIT}


def read_list(file: Path, reads: Sequence[str]) -> list[Entry]:
    """The images of a list with the columns path, label and, if there are splits, split.

    Columns are separated by commas, semicolons or tabs. Paths are relative to the list's folder.
    Labels are names of classes, or whole numbers, all of them from 0 or from 1 on. A column
    is_valid has true for the split validation and false for train.

    Args:
      file: the list.
      reads: "labels", where a label may be several, "cat;dog", or none; "label"; or nothing, for
        lists that need none.

    Raises:
      DataError: naming the line, for a missing file or an impossible label.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = file.read_bytes()[: error.start].count(b"\n")
        raise DataError(
            f"{file}, line {before + 1} is not UTF-8; save the list as UTF-8"
        ) from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        names = reader.fieldnames or ()
        path_column = _column(file, names, _PATH)
        label_column = _column(file, names, _LABEL, needed=bool(reads))
        split_column = _column(file, names, _SPLIT, needed=False)
        entries: list[Entry] = []
        labels: dict[str, tuple[str, ...]] = {}
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if any(map(str.strip, row.get(None, ()))):
                raise DataError(
                    f"{where} has more columns than line 1; write quotes around a text that has "
                    f'{delimiter!r} in it, "a{delimiter} b"'
                )
            label = row[label_column] if label_column else ""
            entry = _entry(where, file.parent, row[path_column], label, reads)
            split = _split(where, split_column, row[split_column]) if split_column else ""
            entries.append(entry._replace(split=split or DEFAULT_SPLIT))
            other = labels.setdefault(entry.path, entry.class_names)
            if other != entry.class_names:
                raise DataError(
                    f"{where}: {entry.path} has {';'.join(entry.class_names)!r} here and "
                    f"{';'.join(other)!r} in a line before; give each image one line, with "
                    "'cat;dog' for several labels (config.task = multilabel)"
                )
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error
    joined = next((n for e in entries for n in e.class_names if ";" in n), None)
    if joined and reads:
        logging.warning("%s: %r is one class; config.task = multilabel splits it", file, joined)
    _check_numbers(file, {name for entry in entries for name in entry.class_names})
    return entries


def _column(
    file: Path, header: Sequence[str], names: Sequence[str], needed: bool = True
) -> str | None:
    """The column of the header that has one of the names."""
    found = [column for column in header if column and column.strip().lower() in names]
    if len(found) > 1:
        raise DataError(f"{file}, line 1: the columns {' and '.join(found)} mean the same")
    if not found and needed:
        raise DataError(
            f"{file}, line 1: no column {names[0]}; the first line must be path,label or "
            "path,label,split"
        )
    return found[0] if found else None


def _entry(
    where: str, folder: Path, path: str | None, label: str | None, reads: Sequence[str]
) -> Entry:
    path, label = (path or "").strip(), (label or "").strip()
    if not label and ONE in reads:
        raise DataError(f"{where}: no label; expected the name of a class or a number")
    if not label.isprintable():
        raise DataError(
            f"{where}: the label {label[:40]!r} has a line break or the like in it; is a quote not "
            "closed?"
        )
    if not path or not (folder / path).is_file():
        raise DataError(f"{where}: there is no file {folder / path}")
    names = split_labels(label) if SEVERAL in reads else tuple(filter(None, (label,)))
    return Entry(DEFAULT_SPLIT, names, path)


def _split(where: str, column: str, text: str | None) -> str:
    text = (text or "").strip()
    if not column.strip().lower().startswith("is_val"):
        return text
    if text.lower() not in _IS_VALID:
        raise DataError(f"{where}: {column} = {text!r}; expected true or false")
    return _IS_VALID[text.lower()]


def _check_numbers(file: Path, labels: set[str]) -> None:
    """Labels that are numbers must be all from 0 or 1 on: what is left out is likely a mistake."""
    if not labels or not all(re.fullmatch("-?[0-9]{1,18}", label) for label in labels):
        return
    numbers = sorted(map(int, labels))
    first = 1 if numbers[0] == 1 else 0
    if numbers != list(range(first, first + len(numbers))):
        expected = set(range(first, first + len(numbers)))
        odd = next((label for label in sorted(labels, key=int) if int(label) not in expected), None)
        if odd is None:  # "1" and "01"
            odd = next(label for label in sorted(labels) if str(int(label)) != label)
        raise DataError(
            f"{file}: label {odd} is out of range; {len(labels)} different numbers must be "
            f"{first} to {first + len(labels) - 1}"
        )

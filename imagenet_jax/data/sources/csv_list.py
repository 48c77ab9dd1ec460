"""Lists of images: CSV files with a line for each."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from imagenet_jax.data.sources.label_files import split_labels
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, Entry
from imagenet_jax.errors import DataError

# What the columns may be called, in any case.
_PATH = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
_LABEL = ("label", "labels", "class", "class_name", "classname", "category", "target")
_SPLIT = ("split", "subset", "partition")


def read_list(file: Path, several: bool) -> list[Entry]:
    """The images of a list with the columns path, label and, if there are splits, split.

    Columns are separated by commas, semicolons or tabs. Paths are relative to the list's folder.
    Labels are names of classes, or whole numbers, all of them from 0 or from 1 on.

    Args:
      file: the list.
      several: whether a label may be several, "cat;dog", or none.

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
        columns = [_column(file, reader.fieldnames or (), names) for names in (_PATH, _LABEL)]
        split_column = _column(file, reader.fieldnames or (), _SPLIT, needed=False)
        entries = []
        for row in reader:
            path, label = (row[name] for name in columns)
            entry = _entry(file, reader.line_num, path, label, several)
            split = (row[split_column] or "").strip() if split_column else ""
            entries.append(entry._replace(split=split or DEFAULT_SPLIT))
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error
    joined = next((n for e in entries for n in e.class_names if ";" in n), None)
    if joined:
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


def _entry(file: Path, line: int, path: str | None, label: str | None, several: bool) -> Entry:
    where, path, label = f"{file}, line {line}", (path or "").strip(), (label or "").strip()
    if not label and not several:
        raise DataError(f"{where}: no label; expected the name of a class or a number")
    if not path or not (file.parent / path).is_file():
        raise DataError(f"{where}: there is no file {file.parent / path}")
    return Entry(DEFAULT_SPLIT, split_labels(label) if several else (label,), path)


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

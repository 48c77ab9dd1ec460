"""Lists that say which group images or identities belong to: CSV files."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imagenet_jax.errors import DataError, did_you_mean

_NAME = "name"
_SHOWN = 3  # names in a line


class GroupFile(NamedTuple):
    """What a list says.

    Attributes:
      file: where it is, for messages.
      column: the name of the column of groups.
      group_of: {name of an image or identity: its group, "" for none}.
    """

    file: str
    column: str
    group_of: Mapping[str, str]


class Groups(NamedTuple):
    """The groups of the N images of a split.

    Attributes:
      column: what the groups are of, as the list calls it.
      kind: "images" or "identities", which the list names.
      names: of the G groups that have images, in alphabetical order.
      number: int32 [N], of the group of each image, -1 for none.
      ungrouped: the names of the first images without one.
      unknown: names of the list that the split does not have.
    """

    column: str
    kind: str
    names: tuple[str, ...]
    number: np.ndarray
    ungrouped: tuple[str, ...]
    unknown: tuple[str, ...]


def read_groups(file: str, column: str) -> GroupFile:
    """A list with the columns `name` and `column`; commas, semicolons or tabs are between.

    Args:
      file: config.embedding.groups.
      column: config.embedding.group_column; "": the only other one.

    Raises:
      DataError: for a file that cannot be read, that has not these columns, or that has a name in
        two groups.
    """
    where = f"config.embedding.groups = {file!r}"
    try:
        text = Path(os.path.expanduser(file)).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} cannot be read: {reason}") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    group_of: dict[str, str] = {}
    try:
        header = [cell.strip() for cell in next(reader, [])]
        places = _places(where, header, column)
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) != len(header) or not cells[places[0]]:
                raise DataError(
                    f"{where}, line {reader.line_num}: {delimiter.join(row)[:60]!r}; expected "
                    f"{delimiter.join(header)!r}, {len(header)} columns with a name"
                )
            name, group = (cells[place] for place in places)
            if (other := group_of.setdefault(name, group)) != group:
                raise DataError(
                    f"{where}, line {reader.line_num}: {name!r} is in {group!r} here and in "
                    f"{other!r} in a line before; give each name one group"
                )
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}") from error
    if not any(group_of.values()):
        raise DataError(f"{where} has no name with a group in column {header[places[1]]!r}")
    return GroupFile(where, header[places[1]], group_of)


def _places(where: str, header: Sequence[str], column: str) -> tuple[int, int]:
    """Of the names and of the groups among the columns."""
    if _NAME not in header or len(set(header)) < len(header) or len(header) < 2:
        raise DataError(
            f"{where}, line 1: the columns are {', '.join(map(repr, header)) or 'none'}; expected "
            f"{_NAME!r} and one or several of groups, no two called the same"
        )
    others = [name for name in header if name != _NAME]
    if not column and len(others) > 1:
        raise DataError(
            f"{where} has several columns of groups, {', '.join(map(repr, others))}; set "
            "config.embedding.group_column to one of them"
        )
    if column and column not in others:
        raise DataError(
            f"config.embedding.group_column = {column!r} is no column of {where}; expected one of "
            f"{', '.join(map(repr, others))}{did_you_mean(column, others)}"
        )
    return header.index(_NAME), header.index(column or others[0])


def find_groups(
    listed: GroupFile,
    images: Sequence[str],
    labels: np.ndarray,
    identities: Sequence[str],
    where: str,
) -> Groups:
    """The groups of the images of a split.

    All names of a list are taken for those of images, or all for those of identities: whichever
    more of them fit, identities where it is as many, as numbers may be both.

    Args:
      listed: the list.
      images: the names of the N images.
      labels: int [N], which identity each is of.
      identities: the names of the identities that the labels count.
      where: the split, for messages.

    Raises:
      DataError: if none of the names is one of the split's, or none of those has a group.
    """
    there = [identities[label] for label in np.unique(labels).tolist()]
    by_image, by_identity = (
        sum(name in known for name in listed.group_of) for known in (set(images), set(there))
    )
    if not by_image and not by_identity:
        first = next(iter(listed.group_of))
        raise DataError(
            f"{listed.file} names {len(listed.group_of):,} images or identities, as {first!r}, and "
            f"{where} has none of them; expected names of images as {images[0]!r}, or of "
            f"identities as {there[0]!r}{did_you_mean(first, [*there, *images])}"
        )
    kind = "images" if by_image > by_identity else "identities"
    of_image = images if kind == "images" else [identities[label] for label in labels.tolist()]
    told = [listed.group_of.get(name, "") for name in of_image]
    names = tuple(sorted({group for group in told if group}))
    if not names:
        raise DataError(
            f"{listed.file}: no name of {where} has a group in column {listed.column!r}; fill it in"
        )
    number_of = {name: number for number, name in enumerate(names)}
    number = np.array([number_of.get(group, -1) for group in told], np.int32)
    known = set(of_image)
    return Groups(
        listed.column,
        kind,
        names,
        number,
        tuple(images[place] for place in np.flatnonzero(number < 0)[:_SHOWN].tolist()),
        tuple(name for name in listed.group_of if name not in known),
    )

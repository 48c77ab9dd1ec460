"""Five points of each face, from a CSV file, which align it."""

import csv
import functools
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

import ml_collections
import numpy as np

from imagenet_jax.errors import DataError

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_COLUMNS = ("name", *(f"{point}_{axis}" for point in POINTS for axis in "xy"))
_SHOWN = 3  # names in a message


class Landmarks(NamedTuple):
    """The points of n images.

    Attributes:
      row_of: {name of an image: its row}.
      points: x and y in pixels of the photo, float64 [n, 5, 2], in the order of `POINTS`.
    """

    row_of: Mapping[str, int]
    points: np.ndarray


def read_landmarks(file: str) -> Landmarks:
    """The points of a CSV file with the columns name, left_eye_x, left_eye_y, right_eye_x, ...,
    nose_x, ..., left_mouth_x, ..., right_mouth_x, right_mouth_y; in any order, others do not count.

    Raises:
      DataError: for a file that cannot be read, or has not these columns; naming the line, for
        what is no point or a name that comes twice; if most faces have left and right exchanged.
    """
    path = Path(os.path.expanduser(file))
    try:
        return _read(path, file, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{_where(file)} cannot be read: {reason}") from error


@functools.lru_cache(maxsize=2)  # `predict` asks for each photo
def _read(path: Path, file: str, changed: int) -> Landmarks:
    """`changed` is when it last did, so that a new file is read anew."""
    del changed
    text = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    row_of: dict[str, int] = {}
    found = []
    for line, name, points in _rows(text, file):
        if name in row_of:
            raise DataError(f"{_where(file)}, line {line}: {name!r} has points in a line before")
        row_of[name] = len(found)
        found.append(points)
    if not found:
        raise DataError(f"{_where(file)} has no line but the first")
    points = np.array(found).reshape(-1, len(POINTS), 2)
    # To the right from eye to eye, then to the mouth is a turn clockwise, but in a mirror image.
    across, down = points[:, 1] - points[:, 0], points[:, 3:].mean(1) - points[:, :2].mean(1)
    mirrored = across[:, 0] * down[:, 1] < across[:, 1] * down[:, 0]
    if 2 * mirrored.sum() > len(points):
        raise DataError(
            f"{_where(file)}: {mirrored.sum():,} of {len(points):,} faces have left and right "
            "exchanged; left is what is at the left of the photo, the person's right"
        )
    return Landmarks(row_of, points)


def _rows(text: io.StringIO, file: str) -> Iterator[tuple[int, str, list[float]]]:
    """The number, name and ten numbers of each line."""
    reader = csv.DictReader(text, skipinitialspace=True)
    try:
        header = [(name or "").strip() for name in reader.fieldnames or ()]
        if lacking := [name for name in _COLUMNS if header.count(name) != 1]:
            raise DataError(
                f"{_where(file)}, line 1: there must be one column {', '.join(lacking)}; expected "
                f"{','.join(_COLUMNS)}"
            )
        reader.fieldnames = header
        for row in reader:
            cells = [(row[name] or "").strip() for name in _COLUMNS]
            try:
                points = [float(cell) for cell in cells[1:]]
            except ValueError:
                points = [math.nan]
            apart = len(set(zip(points[::2], points[1::2], strict=False))) > 1
            good = cells[0] and all(map(math.isfinite, points)) and apart
            if not good or any(row.get(None) or ()):
                raise DataError(
                    f"{_where(file)}, line {reader.line_num}: {','.join(cells)[:80]!r}; expected a "
                    "name and ten numbers, of points that are not all the same"
                )
            yield reader.line_num, cells[0], points
    except csv.Error as error:
        raise DataError(f"{_where(file)}, line {reader.line_num}: {error}") from error


def landmarks_of(data: ml_collections.ConfigDict, names: Iterable[str], where: str) -> np.ndarray:
    """The points of the N images with these names, float64 [N, 5, 2]; NaN where there are none.

    Args:
      data: config.data.
      names: of the images, as the data set calls them.
      where: the split, for messages.

    Raises:
      DataError: as `read_landmarks`; for images that lack points, all of them, or with
        data.bad_images = "fail" any.
    """
    file, names = data.landmarks, list(names)
    listed = read_landmarks(file)
    row = np.array([listed.row_of.get(name, -1) for name in names])
    lacking = np.flatnonzero(row < 0)
    if len(lacking) == len(names):
        raise DataError(
            f"{_where(file)} has points of none of the {len(names):,} images of {where}, as "
            f"{names[0]!r}; it names {next(iter(listed.row_of))!r}"
        )
    if lacking.size and data.bad_images == "fail":
        named = ", ".join(repr(names[place]) for place in lacking[:_SHOWN])
        more = ", ..." if lacking.size > _SHOWN else ""
        raise DataError(
            f"{_where(file)} lacks the points of {lacking.size:,} of {len(names):,} images of "
            f"{where}: {named}{more}. Add them, or set data.bad_images=skip"
        )
    return np.where((row < 0)[:, None, None], np.nan, listed.points[row])


def landmarks_of_photo(file: str, path: str) -> np.ndarray:
    """The points of a photo in a file, float64 [5, 2]: of the name in the list that most of the
    end of its path is, so that PEOPLE/ann/1.jpg may be ann/1.jpg or 1.jpg.

    Raises:
      DataError: as `read_landmarks`, or if it has none.
    """
    listed = read_landmarks(file)
    parts = PurePath(path).parts
    for start in range(len(parts)):
        if (row := listed.row_of.get("/".join(parts[start:]))) is not None:
            return listed.points[row]
    raise DataError(
        f"{path}: {_where(file)} has no points of it, which data.eval_crop = 'align' needs"
    )


def _where(file: str) -> str:
    return f"config.data.landmarks = {file!r}"

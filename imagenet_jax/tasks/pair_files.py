"""Lists of pairs of images in the form of pairs.txt of Labeled Faces in the Wild."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from imagenet_jax.errors import DataError, did_you_mean
from imagenet_jax.tasks.verification import FOLDS, PairList

_FORM = (
    "expected FOLDS and PAIRS in the first line, then in each fold PAIRS lines 'NAME N M' of one "
    "person and PAIRS lines 'NAME N NAME M' of two, with tabs or spaces between"
)


class FilePair(NamedTuple):
    """Two images, "NAME/NAME_0001" each, and the fold that they are in."""

    first: str
    second: str
    same: bool
    fold: int


def read_pairs(file: str) -> list[FilePair]:
    """The pairs of a file.

    With one number in the first line, as in LFW's pairsDevTest.txt, there is one fold, which is cut
    into ten.

    Raises:
      DataError: for a file that cannot be read, or a line that is not of the form.
    """
    path = Path(os.path.expanduser(file))
    where = f"config.embedding.pairs = {file!r}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} cannot be read: {reason}") from error
    head = lines[0].split() if lines else []
    if not 1 <= len(head) <= 2 or not all(word.isdecimal() and len(word) < 9 for word in head):
        raise DataError(f"{where}, line 1: {_line(lines, 0)!r}; {_FORM}")
    folds, half = (1, *map(int, head))[-2:]
    body = [(number, line) for number, line in enumerate(lines) if number and line.strip()]
    if len(body) != 2 * folds * half or not half:
        raise DataError(
            f"{where} has {len(body):,} lines of pairs, and its first line says {folds} x 2 x "
            f"{half}; {_FORM}"
        )
    if folds not in (1, FOLDS):
        raise DataError(f"{where} has {folds} folds; expected {FOLDS}, or 1, which is cut into ten")
    if folds == 1 and half < FOLDS:
        raise DataError(f"{where} has {half} pairs of each kind; expected {FOLDS} at least")
    found = []
    for place, (number, line) in enumerate(body):
        fold, within = divmod(place, 2 * half)
        fold = fold if folds > 1 else within % half * FOLDS // half
        found.append(_pair(line, within < half, fold, f"{where}, line {number + 1}"))
    return found


def _line(lines: list[str], number: int) -> str:
    return lines[number][:60] if number < len(lines) else ""


def _pair(line: str, same: bool, fold: int, where: str) -> FilePair:
    words = line.strip().split("\t") if "\t" in line else line.split()
    words = [word.strip() for word in words]
    numbers = words[1:] if same else words[1::2]
    if len(words) != (3 if same else 4) or not all(n.isdecimal() and len(n) < 9 for n in numbers):
        kind = "'NAME N M' of one person" if same else "'NAME N NAME M' of two"
        raise DataError(f"{where}: {line[:60]!r}; expected {kind}")
    one = words[0]
    other = one if same else words[2]
    return FilePair(_image(one, numbers[0]), _image(other, numbers[1]), same, fold)


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}"


def find_pairs(pairs: Iterable[FilePair], names: Iterable[str], where: str) -> PairList:
    """The pairs by the numbers of their images.

    Args:
      pairs: of a file.
      names: of all images of a split, as .../NAME/NAME_0001.jpg.
      where: the split, for a message.

    Raises:
      DataError: for an image that is not there.
    """
    places = {
        "/".join(PurePosixPath(name).with_suffix("").parts[-2:]): place
        for place, name in enumerate(names)
    }
    pairs = list(pairs)
    images = dict.fromkeys(itertools.chain.from_iterable((p.first, p.second) for p in pairs))
    if lacking := [image for image in images if image not in places]:
        raise DataError(
            f"config.embedding.pairs names {len(lacking):,} images that {where} does not have, as "
            f"{lacking[0]}.jpg; expected CLASS/CLASS_0001.jpg{did_you_mean(lacking[0], places)}"
        )
    first, second = (
        np.array([places[image] for image in column], np.int64)
        for column in zip(*((p.first, p.second) for p in pairs), strict=True)
    )
    same, fold = (np.array([getattr(p, name) for p in pairs]) for name in ("same", "fold"))
    return PairList(first, second, same, fold)

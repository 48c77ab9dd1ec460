"""A part of a split: a fold of a cross-validation, or a slice as TFDS has them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.data.shuffle import permutation
from imagenet_jax.data.sources.source import ArraySource, EncodedSource
from imagenet_jax.errors import DataError

_NUMBER = r"-?\d+(?:\.\d+)?%|-?\d+"
_SLICE = re.compile(rf"({_NUMBER})?:({_NUMBER})?\]")


def fold_of(source: Any, fold: int, folds: int, *, train: bool) -> Any:
    """Every `folds`-th example of a fixed random order from `fold` on; in training all others.

    Raises:
      DataError: for a part without images.
    """
    order = permutation(0, 0, len(source))
    held_out = np.arange(len(order)) % folds == fold
    index = np.sort(order[~held_out if train else held_out])
    if not index.size:
        raise DataError(
            f"fold {fold} of {folds} has none of the split's {len(order)} images; set data.folds "
            f"to {len(order)} at most"
        )
    return part_with(source, index)


def part_with(source: Any, index: np.ndarray) -> Any:
    """The examples of a source with these numbers, int64 [n]."""
    return (ArrayPart if hasattr(source, "arrays") else EncodedPart)(source, index)


def split_slice(split: str) -> tuple[str, tuple[str, str] | None]:
    """("train", ("", "90%")) of "train[:90%]"; the name and None where nothing is cut out.

    Raises:
      DataError: for what is no slice.
    """
    name, bracket, rest = split.partition("[")
    found = _SLICE.fullmatch(rest)
    if bracket and not found:
        raise DataError(f"split {split!r}: expected NAME, NAME[:90%], NAME[90%:] or NAME[10:20]")
    return name, found.groups(default="") if found else None


def slice_of(source: EncodedSource, cut: tuple[str, str]) -> "EncodedPart":
    """A part of a fixed random order, so that it has images of all classes.

    Args:
      source: the whole.
      cut: where it begins and where it ends, numbers of images or percents; "": the end.

    Raises:
      DataError: for a part without images.
    """
    order = permutation(0, 0, len(source))
    begin, end = (
        _place(text, len(order)) if text else whole
        for text, whole in zip(cut, (0, len(order)), strict=True)
    )
    if not order[begin:end].size:
        raise DataError(f"[{cut[0]}:{cut[1]}] of {len(order)} images is none")
    return EncodedPart(source, np.sort(order[begin:end]))


def _place(text: str, count: int) -> int:
    if not text.endswith("%"):
        return int(text)
    place = round(float(text[:-1]) / 100 * count)
    return max(count + place, 0) if text.startswith("-") else place  # also of -0.1% from the end


class _Part:
    def __init__(self, source: Any, index: np.ndarray):
        if type(source) in (EncodedPart, ArrayPart):  # `index` is of the whole, to be compared
            source, index = source.source, source.index[index]
        self.source, self.index = source, index
        self.class_names, self.fields = source.class_names, source.fields

    def __len__(self) -> int:
        return len(self.index)

    def objects(self, index: int) -> Any:
        """What is in an image, of sources that have objects."""
        return self.source.objects(int(self.index[index]))


class EncodedPart(_Part):
    """See `source.EncodedSource`."""

    source: EncodedSource

    def read(
        self, index: np.ndarray
    ) -> tuple[list[bytes | memoryview], Mapping[str, Sequence[np.ndarray]]]:
        return self.source.read(self.index[index])

    def name(self, index: int) -> str:
        return self.source.name(int(self.index[index]))

    def describe(self, index: int) -> str:
        return self.source.describe(int(self.index[index]))


class ArrayPart(_Part):
    """See `source.ArraySource`."""

    source: ArraySource

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        return self.source.arrays(self.index[index])

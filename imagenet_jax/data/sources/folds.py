"""A part of a split: the folds of a cross-validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.data.shuffle import permutation
from imagenet_jax.data.sources.source import ArraySource, EncodedSource


def fold_of(source: Any, fold: int, folds: int, *, train: bool) -> Any:
    """Every `folds`-th example of a fixed random order from `fold` on; in training all others."""
    order = permutation(0, 0, len(source))
    held_out = np.arange(len(order)) % folds == fold
    index = np.sort(order[~held_out if train else held_out])
    return (_ArrayPart if hasattr(source, "arrays") else _EncodedPart)(source, index)


class _Part:
    def __init__(self, source: Any, index: np.ndarray):
        self.source, self.index = source, index
        self.class_names, self.fields = source.class_names, source.fields

    def __len__(self) -> int:
        return len(self.index)


class _EncodedPart(_Part):
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


class _ArrayPart(_Part):
    """See `source.ArraySource`."""

    source: ArraySource

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        return self.source.arrays(self.index[index])

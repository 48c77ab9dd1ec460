"""What a data set must be able to do: give the examples of a split by their numbers."""

from typing import Protocol

import numpy as np


class EncodedSource(Protocol):
    """Random access to a split of N images as they are stored (JPEG, PNG, ...)."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """N."""

    def read(self, index: np.ndarray) -> tuple[list[bytes | memoryview], np.ndarray]:
        """The encoded images and the labels int32 [b] of the examples index [b]."""

    def name(self, index: int) -> str:
        """What the example is called within the split."""

    def describe(self, index: int) -> str:
        """Where an example comes from, for a message."""


class ArraySource(Protocol):
    """Random access to a split of N images that are ready for the device."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """N."""

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images uint8 [b, S, S, 3], labels int32 [b], and mask bool [b] (False: unreadable)."""

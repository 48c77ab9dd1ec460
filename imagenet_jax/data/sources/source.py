"""What a data set must be able to do: give the examples of a split by their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

SIDE = -1  # in the shape of a field: height or width of the image that comes out


class Field(NamedTuple):
    """What a batch holds of each example, beside its image.

    Attributes:
      shape: of one example; (SIDE, SIDE): a map of the image's pixels.
      dtype: of NumPy.
      padding: what stands in rows without an example, and behind the last of several things
        where an example has fewer than its shape has room for; of a map where no pixel is.
      table: of a map, what its 256 levels stand for; b"": themselves.
      most: of a map, how many different ones there can be beside `padding`.
    """

    shape: tuple[int, ...]
    dtype: Any
    padding: Any = 0
    table: bytes = b""
    most: int = 256

    @property
    def is_map(self) -> bool:
        """Whether sources give files of images of one channel, one level for each pixel, which are
        cropped and resized as the example's image."""
        return SIDE in self.shape

    def sized(self, side: int) -> "Field":
        """For images of side x side pixels."""
        return self._replace(shape=tuple(side if n == SIDE else n for n in self.shape))

    def filled(self, rows: int) -> np.ndarray:
        """Rows without examples [rows, *shape]."""
        return np.full((rows, *self.shape), self.padding, self.dtype)


class ImpossibleValue(ValueError):
    """A value of a field that cannot be: not an image's fault, so that none is skipped for it."""


class EncodedSource(Protocol):
    """Random access to a split of N images as they are stored (JPEG, PNG, ...)."""

    class_names: tuple[str, ...]
    fields: Mapping[str, Field]

    def __len__(self) -> int:
        """N."""

    def read(
        self, index: np.ndarray
    ) -> tuple[list[bytes | memoryview], Mapping[str, Sequence[np.ndarray]]]:
        """The encoded images of the examples index [b], and the values of `fields`, b of each.

        A value has its field's shape, or less of the first axis: padding takes the rest. That of
        a map is an encoded image, that of boxes are `objects.Objects`, of which their other fields
        are made, too.

        Raises:
          ImpossibleValue: for a value that cannot be.
          Exception: of any kind, for an example that cannot be read.
        """

    def name(self, index: int) -> str:
        """What the example is called within the split."""

    def describe(self, index: int) -> str:
        """Where an example comes from, for a message."""


class ArraySource(Protocol):
    """Random access to a split of N images that are ready for the device."""

    class_names: tuple[str, ...]
    fields: Mapping[str, Field]

    def __len__(self) -> int:
        """N."""

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Images uint8 [b, S, S, 3], `fields` [b, ...], and mask bool [b] (False: unreadable)."""

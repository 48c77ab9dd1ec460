"""A split that is read for several tasks at once: one image, the fields of each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.errors import DataError

_COMPARED = 1000  # images of two sources, at most


class JoinedSource:
    """Sources of the same images that have different fields, as one; see `source`.

    Attributes:
      parts: {what a task reads: its source}.
    """

    def __init__(self, parts: Mapping[tuple[str, ...], Any]):
        """Raises DataError if they are seen to have other examples."""
        self.parts = dict(parts)
        self._first, *others = self.parts.values()
        for other in others:
            if len(other) != len(self._first):
                raise DataError(
                    f"beside {self._first.describe(0)} some tasks have {len(self._first):,} "
                    f"examples, others {len(other):,}: they need annotations of the same images"
                )
            _check_names(self._first, other)
        self.class_names = self._first.class_names
        self._richest_last = sorted(self.parts.values(), key=lambda one: len(one.fields))
        self.fields = {k: field for one in self.parts.values() for k, field in one.fields.items()}

    def __len__(self) -> int:
        return len(self._first)

    def objects(self, index: int) -> Any:
        """What is in an image, of the part that has objects."""
        return next(one for one in self._richest_last[::-1] if hasattr(one, "objects")).objects(
            index
        )


def _check_names(one: Any, other: Any) -> None:
    """Raises DataError if two sources are seen to have other images, or these in another order."""
    if not hasattr(one, "name") or not hasattr(other, "name"):
        return  # noise
    for index in np.unique(np.linspace(0, len(one) - 1, _COMPARED).astype(int)).tolist():
        if one.name(index) != other.name(index):
            raise DataError(
                f"image {index} is {one.describe(index)} for one task and {other.describe(index)} "
                "for another: they need annotations of the same images"
            )


class JoinedEncoded(JoinedSource):
    """See `source.EncodedSource`."""

    def read(self, index: np.ndarray) -> tuple[list[Any], dict[str, Sequence[Any]]]:
        values: dict[str, Sequence[Any]] = {}
        for one in self._richest_last:  # objects with outlines in place of those without
            images, more = one.read(index)
            values |= more
        return images, values

    def name(self, index: int) -> str:
        return self._first.name(index)

    def describe(self, index: int) -> str:
        return self._first.describe(index)


class JoinedArrays(JoinedSource):
    """See `source.ArraySource`."""

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        images, values, mask = self._first.arrays(index)
        for other in list(self.parts.values())[1:]:
            _, more, there = other.arrays(index)
            values, mask = {**values, **more}, mask & there
        return images, values, mask


def joined(parts: Mapping[tuple[str, ...], Any]) -> JoinedSource:
    """Sources of either kind as one."""
    arrays = all(hasattr(one, "arrays") for one in parts.values())
    return (JoinedArrays if arrays else JoinedEncoded)(parts)

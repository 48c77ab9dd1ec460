"""The classes of images as fields of a batch: the one that an image has, or all of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.data.sources.source import Field, ImpossibleValue
from imagenet_jax.errors import DataError
from imagenet_jax.terminal import working

ONE, SEVERAL = "label", "labels"  # of an image
SEGMENTATION = "segmentation"  # of its pixels
_READ = 1024  # examples at once


@dataclasses.dataclass(frozen=True)
class ClassField:
    """The field that says what classes an image has.

    Attributes:
      name: "label": the one class, int32 []; "labels": all of them, uint8 [K], 1 for those that
        the image has; "": no field, classes are not asked for.
      count: K, the number of classes.
    """

    name: str
    count: int

    @property
    def fields(self) -> dict[str, Field]:
        """The field by its name, as sources have it."""
        fields = {ONE: Field((), np.int32), SEVERAL: Field((self.count,), np.uint8)}
        return {self.name: fields[self.name]} if self.name else {}

    def values(self, labels: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """What the examples [b] have, from the numbers of each one's classes.

        Raises:
          ImpossibleValue: for a number that is no class, or an image without its one label.
        """
        if not self.name:
            return {}
        for of_image in labels:
            for label in of_image:
                if not 0 <= label < self.count:
                    raise ImpossibleValue(f"label {label} is none of 0 to {self.count - 1}")
            if self.name == ONE and len(of_image) != 1:
                raise ImpossibleValue(f"it has {len(of_image)} labels, not one")
        if self.name == ONE:
            return {ONE: np.array([label for (label,) in labels], np.int32)}
        several = np.zeros((len(labels), self.count), np.uint8)
        for row, of_image in zip(several, labels, strict=True):
            row[list(of_image)] = 1
        return {SEVERAL: several}


def class_field(reads: Sequence[str], count: int, where: str) -> ClassField:
    """The field of classes that a task reads.

    Args:
      reads: the names of the fields, see `Task.reads`.
      count: of the classes.
      where: the data set, for the message.

    Raises:
      DataError: if that is not what such a data set has.
    """
    if tuple(reads) not in ((), (ONE,), (SEVERAL,)):
        hints = {
            SEGMENTATION: ": photos with maps of classes are masks:PATH",
            "boxes": ": photos with boxes are coco:PATH, voc:PATH, yolo:PATH",
        }
        hint = "".join(hints.get(name, "") for name in reads)
        raise DataError(
            f"{where} has classes of images, and config.task needs {', '.join(reads)}{hint}"
        )
    return ClassField("".join(reads), count)


def numbers_of(values: Mapping[str, np.ndarray], row: int) -> tuple[int, ...]:
    """The numbers of an image's classes, the opposite of `ClassField.values`."""
    if ONE in values:
        return (int(values[ONE][row]),)
    return tuple(np.flatnonzero(values[SEVERAL][row]).tolist())


def examples_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """The numbers of the examples of each class that has any, int64 [n] each, of labels [N]."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return np.split(order, starts)


def class_counts(source: Any, count: int) -> np.ndarray:
    """How many examples of a source each of `count` classes has, int64 [count].

    Raises:
      DataError: if labels cannot be read.
    """
    return np.bincount(_labels(source, "loss.class_weights = balanced"), minlength=count)


def labels_of(source: Any, purpose: str) -> np.ndarray:
    """The one label of each example, int [N].

    Args:
      source: an `EncodedSource` or `ArraySource` of one label an image; where only its records
        know the labels, all of them are read.
      purpose: what wants to know, for a message.

    Raises:
      DataError: for a source of several labels an image, or labels that cannot be read.
    """
    if ONE not in source.fields:
        raise DataError(f"{purpose}: images need one label each")
    return _labels(source, purpose)


def _labels(source: Any, purpose: str) -> np.ndarray:
    """Of all examples, int [N], for the field that wants them."""
    if hasattr(source, "groups"):
        return source.groups()
    if hasattr(source, "index"):  # a part of another one
        return _labels(source.source, purpose)[source.index]
    read = source.arrays if hasattr(source, "arrays") else source.read
    found, count = [], len(source)
    with working(f"reading the labels for {purpose}") as show:
        for start in range(0, count, _READ):
            try:
                found.append(read(np.arange(start, min(start + _READ, count)))[1][ONE])
            except Exception as error:  # of a damaged record: of many libraries
                message = f"{purpose}: the labels cannot be read: {error}"
                raise DataError(message) from error
            show(f"reading the labels: {start:,} of {count:,}")
    return np.concatenate(found)

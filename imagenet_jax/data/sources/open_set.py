"""Classes that are evaluated on and never trained on."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from imagenet_jax.data.sources.classes import labels_of
from imagenet_jax.data.sources.parts import part_with
from imagenet_jax.errors import DataError, did_you_mean

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def held_out_classes(said: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """The numbers of the classes that config.data.held_out_classes means, int64 [n], sorted.

    Args:
      said: names, or FIRST..LAST.
      class_names: of the data set.

    Raises:
      DataError: for a class that does not exist, or if none is left to train on.
    """
    numbers: set[int] = set()
    places = {name: number for number, name in enumerate(class_names)}
    for text in said:
        found = _RANGE.fullmatch(text)
        if text in places:
            numbers.add(places[text])
        elif found and int(found[1]) <= int(found[2]) < len(class_names):
            numbers.update(range(int(found[1]), int(found[2]) + 1))
        else:
            raise DataError(
                f"config.data.held_out_classes has {text!r}, and there is no such class; expected "
                f"names, or FIRST..LAST with numbers of 0 to {len(class_names) - 1}"
                f"{did_you_mean(text, class_names)}"
            )
    if len(numbers) == len(class_names):
        raise DataError(
            f"config.data.held_out_classes = {tuple(said)!r} are all {len(class_names)} classes; "
            "leave some to train on"
        )
    return np.array(sorted(numbers), np.int64)


def open_set_part(source: Any, said: Sequence[str], split: str, *, train: bool) -> Any:
    """The images of the classes that are held out; in training those of all others.

    Args:
      source: a source of one label an image.
      said: config.data.held_out_classes.
      split: its name, for a message.
      train: which of the two.

    Raises:
      DataError: for classes that do not exist, or if no image is left.
    """
    numbers = held_out_classes(said, source.class_names)
    labels = labels_of(source, "data.held_out_classes")
    index = np.flatnonzero(np.isin(labels, numbers) != train)
    if not len(index):
        which = "but those" if train else "of the classes"
        raise DataError(
            f"config.data.held_out_classes = {tuple(said)!r}: {split} has no images {which} that "
            "are held out"
        )
    return part_with(source, index)

"""Training images that have their labels, where most have none."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.config.semi_fields import labelled_fields
from imagenet_jax.data.shuffle import permutation
from imagenet_jax.data.sources.classes import ONE, examples_by_class, labels_of
from imagenet_jax.data.sources.parts import ArrayPart, EncodedPart, part_with
from imagenet_jax.errors import DataError, did_you_mean

HIDDEN = -1  # in place of a label
_CHOICE = 1 << 62  # of the permutation that is drawn from, which is that of no epoch


def labelled_source(
    source: Any, data: ml_collections.ConfigDict, seed: int, split: str
) -> tuple[Any, str]:
    """The images that have their labels; with data.labelled_share all, the labels of others hidden.

    Args:
      source: of training images with one label each.
      data: config.data, which says which have labels.
      seed: of the run.
      split: its name, for messages.

    Returns:
      The source, and a line of the log that says how many have labels.

    Raises:
      DataError: as `labelled_examples`, or if all have labels and some should not.
    """
    labels, chosen = labelled_examples(source, data, seed, split)
    counts = np.unique(labels[chosen], return_counts=True)[1]
    about = (
        f"{data.name}: {len(chosen):,} of {len(labels):,} images of {split} have their labels, "
        f"{counts.min():,} to {counts.max():,} of each of {len(counts):,} classes"
    )
    if data.labelled_share:
        if len(chosen) == len(labels):
            raise DataError(f"{about}: none is left to be learnt from without; lower their number")
        is_known = np.isin(np.arange(len(labels)), chosen)
        index, labels = np.arange(len(labels)), np.where(is_known, labels, HIDDEN)
    else:
        index, labels = chosen, labels[chosen]
    if data.unlabelled_class:
        return _without_class(source, index, labels, data.unlabelled_class), about
    if not data.labelled_share:
        return part_with(source, chosen), about
    return _told(source, index, labels, source.class_names), about


def source_without_class(source: Any, name: str) -> Any:
    """The images of all other classes, if there is one of this name: what is evaluated on."""
    if name not in source.class_names:
        return source
    labels = labels_of(source, "data.unlabelled_class")
    index = np.flatnonzero(labels != source.class_names.index(name))
    return _without_class(source, index, labels[index], name)


def labelled_examples(
    source: Any, data: ml_collections.ConfigDict, seed: int, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """The labels of all examples, int [N], and the numbers of those that have them, int64 [n].

    They are a function of the seed and the labels, or of the list, alone, and sorted.

    Raises:
      DataError: for a class that has images and none with a label, or too few; a list that cannot
        be read, or that names what is not there; data.unlabelled_class where there is no such one.
    """
    (field,) = labelled_fields(data)
    labels = labels_of(source, f"data.{field}")
    if field == "unlabelled_class":
        return labels, _of_other_classes(data.unlabelled_class, source, labels, split)
    if field == "labelled_list":
        chosen = listed_examples(data.labelled_list, source, split)
        without = np.setdiff1d(labels, labels[chosen])
        if without.size:
            names = [source.class_names[k] for k in without[:3]]
            raise DataError(
                f"config.data.labelled_list = {data.labelled_list!r} has no image of "
                f"{without.size} classes of {split}, {', '.join(map(repr, names))}; name some of "
                "each"
            )
        return labels, chosen
    order = permutation(seed, _CHOICE, len(labels))
    groups = [order[group] for group in examples_by_class(labels[order])]
    counts = [data.labelled_per_class] * len(groups)
    if field == "labelled_fraction":
        counts = [max(1, int(data.labelled_fraction * len(group) + 0.5)) for group in groups]
    few = min(groups, key=len)
    if len(few) < data.labelled_per_class:
        raise DataError(
            f"config.data.labelled_per_class = {data.labelled_per_class}, and "
            f"{source.class_names[labels[few[0]]]!r} has {len(few)} images in {split}; set it to "
            f"{len(few)} at most"
        )
    chosen = [group[:count] for group, count in zip(groups, counts, strict=True)]
    return labels, np.sort(np.concatenate(chosen))


def _of_other_classes(name: str, source: Any, labels: np.ndarray, split: str) -> np.ndarray:
    """The numbers of the examples of all classes but one, which some and not all are of.

    Raises:
      DataError: if it is otherwise.
    """
    names = source.class_names
    of_it = labels == names.index(name) if name in names else np.zeros(len(labels), bool)
    if of_it.all() or not of_it.any():
        which = "no images but those" if of_it.all() and len(labels) else "no images"
        raise DataError(
            f"config.data.unlabelled_class = {name!r}: {split} has {which} of such a class"
            f"{'' if name in names else did_you_mean(name, names)}"
        )
    return np.flatnonzero(~of_it)


def read_names(file: str) -> list[str]:
    """The lines of config.data.labelled_list. Raises DataError if there are none to be read."""
    try:
        text = Path(os.path.expanduser(file)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"config.data.labelled_list = {file!r} cannot be read: {reason}") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise DataError(f"config.data.labelled_list = {file!r} names no image")
    return names


def listed_examples(file: str, source: Any, split: str) -> np.ndarray:
    """The numbers of the examples that a list names, int64 [n], sorted; see `read_names`.

    Raises:
      DataError: for a name that is not there, or that is several images'.
    """
    named = getattr(source, "name", None)
    names = [named(number) if named else str(number) for number in range(len(source))]
    ending: dict[str, list[int]] = {}  # the examples whose names end so
    for number, name in enumerate(names):
        parts = name.split("/")
        for start in range(len(parts)):
            ending.setdefault("/".join(parts[start:]), []).append(number)
    numbers = {name: [number] for number, name in enumerate(names)}
    found = set()
    for text in read_names(file):
        places = numbers.get(text) or ending.get(text, [])
        if not places and text.isdecimal() and int(text) < len(names):
            places = [int(text)]
        if len(places) != 1:
            what = f"{len(places)} images have that name, write their folders"
            if not places:
                what = f"{split} has no such image{did_you_mean(text, names)}"
            raise DataError(f"config.data.labelled_list = {file!r} has {text!r}, and {what}")
        found.add(places[0])
    return np.array(sorted(found), np.int64)


def _without_class(source: Any, index: np.ndarray, labels: np.ndarray, name: str) -> Any:
    """Examples index [n] with their labels [n], of which none is that of a class of this name; the
    classes behind it have other numbers then."""
    number = source.class_names.index(name)
    names = (*source.class_names[:number], *source.class_names[number + 1 :])
    return _told(source, index, labels - (labels > number), names)


def _told(source: Any, index: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Any:
    """The examples index [n] of a source with other labels [n] and names of classes."""
    kind = _ToldArrays if hasattr(source, "arrays") else _ToldEncoded
    return kind(source, index, labels, tuple(names))


class _Told:
    """Examples of a source, with other labels.

    Attributes:
      labelled, unlabelled: the numbers of those that have a label, and of the others.
    """

    def __init__(
        self, source: Any, index: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
    ):
        super().__init__(source, index)
        self.class_names = class_names
        self._labels = labels.astype(np.int32)
        self.labelled = np.flatnonzero(labels != HIDDEN)
        self.unlabelled = np.flatnonzero(labels == HIDDEN)

    def groups(self) -> np.ndarray:
        """The label of each image, int32 [N], as far as it is known."""
        return self._labels


class _ToldEncoded(_Told, EncodedPart):
    """See `source.EncodedSource`."""

    def read(
        self, index: np.ndarray
    ) -> tuple[list[bytes | memoryview], Mapping[str, Sequence[np.ndarray]]]:
        files, values = super().read(index)
        return files, {**values, ONE: self._labels[index]}


class _ToldArrays(_Told, ArrayPart):
    """See `source.ArraySource`."""

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        images, values, mask = super().arrays(index)
        return images, {**values, ONE: self._labels[index]}, mask

"""The 1000 classes of ImageNet (ILSVRC 2012)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagenet_jax.errors import DataError

# Line k, "SYNSET NAME", is label k: synsets in alphabetical order, as in TFDS, torchvision and
# timm. The names are those of torchvision's weights (torchvision.models._meta).
_LINES = (Path(__file__).parent / "imagenet_classes.txt").read_text().splitlines()

SYNSETS = tuple(line.partition(" ")[0] for line in _LINES)
NAMES = tuple(line.partition(" ")[2] for line in _LINES)
TITLES = dict(zip(SYNSETS, NAMES, strict=True))


def imagenet_labels(class_names: Sequence[str]) -> np.ndarray:
    """The labels int32 [K] of classes that are called by their synsets or their names.

    Names are compared as they are, and where none is the same without regard to case, "_" and "-".

    Raises:
      DataError: for classes that are none of ImageNet's or may be several of them, and for two
        that are the same.
    """
    found = [_labels_of(name) for name in class_names]
    strange = [name for name, labels in zip(class_names, found, strict=True) if not labels]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(found)} classes are none of ImageNet's, e.g. "
            f"{', '.join(strange[:3])}; expected synsets such as {SYNSETS[0]}, or names such as "
            f"{NAMES[0]!r}"
        )
    first: dict[int, str] = {}
    for name, labels in zip(class_names, found, strict=True):
        if len(labels) > 1:
            several = " or ".join(f"{SYNSETS[label]} ({NAMES[label]})" for label in labels)
            raise DataError(f"the class {name!r} is ambiguous: {several}; call it by its synset")
        if labels[0] in first:
            raise DataError(
                f"the classes {first[labels[0]]!r} and {name!r} are both {SYNSETS[labels[0]]} "
                f"({NAMES[labels[0]]}); put them together"
            )
        first[labels[0]] = name
    return np.array([label for (label,) in found], np.int32)


def _labels_of(name: str) -> list[int]:
    """The classes that a name may stand for."""
    name = name.partition(",")[0].strip()  # "tench, Tinca tinca": further words for the same
    for known, wanted in ((SYNSETS, name), (NAMES, name), (_PLAIN, _plain(name))):
        labels = [label for label, other in enumerate(known) if other == wanted]
        if labels:
            return labels
    return []


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


_PLAIN = tuple(map(_plain, NAMES))

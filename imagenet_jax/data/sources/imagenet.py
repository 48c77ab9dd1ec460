"""The 1000 classes of ImageNet (ILSVRC 2012)."""

import re
from collections.abc import Collection, Sequence
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

    Behind a synset anything may stand: "n02085620-Chihuahua". "_" and "-" are as spaces. Capital
    letters count if all names have those of `NAMES`: then "Cardigan" is the dog. Of WordNet's
    "tench, Tinca tinca" the first word is enough.

    Raises:
      DataError: for classes that are none of ImageNet's or may be several of them, and for two
        that are the same.
    """
    exact = all(_SYNSET.match(name) or _first_word(name) in _SPACED for name in class_names)
    others = {_whole(name).lower() for name in class_names}
    found = [_labels_of(name, others, exact=exact) for name in class_names]
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


_SYNSET = re.compile(r"\s*(n\d{8})(?!\d)", re.IGNORECASE)
# Names of which WordNet and Keras have two, and how the other one is called here.
_TWINS = {"crane": "crane bird", "maillot": "maillot tank suit"}


def _labels_of(name: str, others: Collection[str], *, exact: bool) -> list[int]:
    """The classes that a name may stand for, among others that are named beside it."""
    if synset := _SYNSET.match(name):
        return [k for k, known in enumerate(SYNSETS) if known == synset[1].lower()]
    for wanted in (_whole(name), _first_word(name)):
        known, wanted = (_SPACED, wanted) if exact else (_PLAIN, wanted.lower())
        labels = [label for label, other in enumerate(known) if other == wanted]
        twin = _TWINS.get(wanted.lower())
        if labels and twin and twin not in others:
            labels.append(_SPACED.index(twin))
        if labels:
            return sorted(labels)
    return []


def _whole(name: str) -> str:
    return _spaced(name.replace(",", ""))


def _first_word(name: str) -> str:
    return _spaced(name.partition(",")[0])


def _spaced(name: str) -> str:
    return name.strip().replace("_", " ").replace("-", " ")


_SPACED = tuple(map(_spaced, NAMES))
_PLAIN = tuple(name.lower() for name in _SPACED)

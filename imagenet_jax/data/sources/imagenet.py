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

    Raises:
      DataError: for classes that are none of ImageNet's.
    """
    known = {_plain(name): label for label, name in enumerate(NAMES)}
    known |= {synset: label for label, synset in enumerate(SYNSETS)}
    # "tench, Tinca tinca": names beside the first are other words for it
    keys = [_plain(name.partition(",")[0]) for name in class_names]
    strange = [name for name, key in zip(class_names, keys, strict=True) if key not in known]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(keys)} classes are none of ImageNet's, e.g. "
            f"{', '.join(strange[:3])}; expected synsets such as {SYNSETS[0]}, or names such as "
            f"{NAMES[0]!r}"
        )
    return np.array([known[key] for key in keys], np.int32)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")

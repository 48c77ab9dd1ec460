"""The 1000 classes of ImageNet (ILSVRC 2012)."""

from pathlib import Path

# Line k, "SYNSET NAME", is label k: synsets in alphabetical order, as in TFDS, torchvision and
# timm. The names are those of torchvision's weights (torchvision.models._meta).
_LINES = (Path(__file__).parent / "imagenet_classes.txt").read_text().splitlines()

SYNSETS = tuple(line.partition(" ")[0] for line in _LINES)
NAMES = tuple(line.partition(" ")[2] for line in _LINES)

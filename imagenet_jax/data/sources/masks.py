"""Photos and maps of their pixels' classes, side by side in a folder or a zip archive.

An image lies below a folder called images, JPEGImages or the like, its map at the same place below
one called masks, SegmentationClass or the like, with the same name but for the suffix, or with
_mask, _seg, _label or _labelIds behind it. Splits are folders train, val and so on, anywhere, or
lists of names, train.txt, val.txt, as in Pascal VOC's ImageSets/Segmentation. A map is a PNG of one
channel, or with a palette, whose levels are numbers of classes; 255 is no class. The names of the
classes are in classes.json, classes.txt, names.txt, labels.txt or data.yaml, the one among the maps
if there is one; without, they are the numbers up to the largest level, but for VOC2012 itself.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from imagenet_jax.data.names import TEST, VALIDATION, existing, split_there
from imagenet_jax.data.sources.classes import SEGMENTATION
from imagenet_jax.data.sources.files import Files, folder_files, zip_files
from imagenet_jax.data.sources.held_out import HeldOut
from imagenet_jax.data.sources.label_files import names_in, read_lines
from imagenet_jax.data.sources.layout import (
    DEFAULT_SPLIT,
    SPLITS,
    LeftOut,
    find_images,
    left_out_text,
)
from imagenet_jax.data.sources.map_classes import (
    MASKS,
    NO_CLASS,
    folders_of,
    map_class_names,
    warn_of_one_class,
)
from imagenet_jax.data.sources.source import SIDE, Field
from imagenet_jax.errors import DataError

FIELD = Field((SIDE, SIDE), np.uint8, NO_CLASS)
_IMAGES = {"images", "image", "imgs", "img", "jpegimages", "photos", "leftimg8bit"}
_SUFFIX = re.compile(
    r"_(mask|masks|seg|segmentation|label|labels|labelids|gtfine_labelids)$", re.IGNORECASE
)
_IMAGE_SUFFIX = re.compile(r"_(leftimg8bit|image|img)$", re.IGNORECASE)


class Pair(NamedTuple):
    """An image, its map, and the split that they are of; "": what the lists say."""

    split: str
    image: str
    mask: str


class MaskSource:
    """A split of photos with maps of classes; see `source.EncodedSource`."""

    def __init__(
        self,
        root: str,
        files: Files,
        pairs: Sequence[Pair],
        split: str,
        class_names: tuple[str, ...],
        left_out: LeftOut,
    ):
        """Takes the pairs of a split."""
        self._root, self._files, self._pairs = root, files, sorted(pairs, key=lambda p: p.image)
        self.split, self.class_names, self.left_out = split, class_names, left_out
        self.fields = {SEGMENTATION: FIELD._replace(most=len(class_names))}

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: np.ndarray) -> tuple[list[bytes], dict[str, list[bytes]]]:
        pairs = [self._pairs[i] for i in index]
        images = [self._files.read(pair.image) for pair in pairs]
        return images, {SEGMENTATION: [self._files.read(pair.mask) for pair in pairs]}

    def name(self, index: int) -> str:
        return self._pairs[index].image

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._pairs[index].image}"

    def stamp(self) -> str:
        """Another one when files come, go or change their size, or the classes change."""
        facts = hashlib.sha1(repr(self.class_names).encode())
        for pair in self._pairs:
            for name in (pair.image, pair.mask):
                facts.update(f"{name}\0{self._files.size_of(name)}\n".encode())
        return facts.hexdigest()

    def groups(self) -> np.ndarray:
        """0 for each image: they are of no single class."""
        return np.zeros(len(self), np.int32)

    def labels_of(self, index: int) -> list[int]:
        """Of images with maps there are none."""
        del index
        return []


def open_masks(
    path: str,
    split: str,
    reads: Sequence[str] = (SEGMENTATION,),
    default: bool = False,
    class_names: tuple[str, ...] = (),
) -> MaskSource | HeldOut:
    """A split of `masks:PATH`, a folder or a zip archive.

    Args:
      path: of data.name.
      split: its name.
      reads: what the task needs.
      default: see `files.open_files`.
      class_names: where they are known already; (): look for them, in all maps if need be.

    Raises:
      DataError: if there are no images with maps, no such split, or a file that cannot be read.
    """
    if tuple(reads) != (SEGMENTATION,):
        raise DataError(
            f"masks:{path} has maps of classes, and config.task needs {', '.join(reads)}; set "
            "config.task=segmentation, or --task=segmentation of prepare"
        )
    root, files, pairs, left_out = _found(path)
    splits = sorted({pair.split for pair in pairs})
    names = class_names or map_class_names(root, files, [pair.mask for pair in pairs])
    whole = default and len(splits) == 1 and splits[0].lower() not in (*VALIDATION, *TEST)
    wanted = splits[0] if whole else split_there(split, splits, default)
    mine = [pair for pair in pairs if pair.split == wanted]
    if not mine:
        others = left_out_text(left_out)
        raise DataError(
            f"{root}: no images with maps in {split!r} (splits found: {', '.join(splits)}"
            + (f"; left out: {others}" if others else "")
            + "). Set data.train_split and data.eval_split"
        )
    warn_of_one_class(root, files, [pair.mask for pair in mine])
    source = MaskSource(root, files, mine, wanted, names, left_out)
    return HeldOut(source, split == DEFAULT_SPLIT) if whole else source


def mask_splits(path: str) -> list[str]:
    """The names of the splits of `masks:PATH`."""
    return sorted({pair.split for pair in _found(path)[2]})


def _found(path: str) -> tuple[str, Files, list[Pair], LeftOut]:
    file = existing("masks", path)
    files = folder_files(file) if file.is_dir() else zip_files(file)
    root, (found, left_out) = str(file), find_images(files.names, files.beginning)
    images, masks = {}, {}
    for name in found:
        parts = folders_of(name)
        if MASKS.intersection(parts):  # also of one in images/train/masks
            of_kind, key = masks, _key(name, MASKS | _IMAGES, _SUFFIX)
        elif _IMAGES.intersection(parts):
            of_kind, key = images, _key(name, _IMAGES, _IMAGE_SUFFIX)
        else:
            left_out.setdefault("in no folder of images or maps", []).append(name)
            continue
        if of_kind.setdefault(key, name) != name:
            left_out.setdefault("named as another but for the suffix", []).append(name)
    pairs = [Pair(_split_of(key), images[key], masks[key]) for key in images if key in masks]
    for reason, one, other in (
        ("without a map", images, masks),
        ("maps of no image", masks, images),
    ):
        if alone := [one[key] for key in one if key not in other]:
            left_out[reason] = alone
    if not pairs:
        raise DataError(
            f"{root}: no image has a map of classes: expected images/NAME.jpg and masks/NAME.png, "
            f"or Pascal VOC's JPEGImages and SegmentationClass ({left_out_text(left_out)})"
        )
    return root, files, *_listed(root, files, pairs, left_out)


def _key(name: str, folders: Collection[str], suffix: re.Pattern[str]) -> str:
    """What an image and its map have in common."""
    path = PurePosixPath(name)
    kept = [part for part in path.parts[:-1] if part.lower() not in folders]
    return "/".join([*kept, suffix.sub("", path.stem)])


def _split_of(key: str) -> str:
    parts = key.split("/")[:-1]
    return next((part for part in parts if part.lower() in SPLITS), "")


def _listed(
    root: str, files: Files, pairs: list[Pair], left_out: LeftOut
) -> tuple[list[Pair], LeftOut]:
    """The pairs with their splits, of lists where no folder says them."""
    if any(pair.split for pair in pairs):
        none = [pair.image for pair in pairs if not pair.split]
        found = [pair for pair in pairs if pair.split]
        return found, left_out | ({"in no split": none} if none else {})
    lists = {}
    for name in files.names:
        path = PurePosixPath(name)
        if path.suffix.lower() == ".txt" and path.stem.lower() in SPLITS:
            inside = "segmentation" in (part.lower() for part in path.parts)
            lists[path.stem] = name if inside or path.stem not in lists else lists[path.stem]
    if not lists:
        return [pair._replace(split=DEFAULT_SPLIT) for pair in pairs], left_out
    by_stem: dict[str, Pair] = {}
    for pair in pairs:
        other = by_stem.setdefault(PurePosixPath(pair.image).stem, pair)
        if other is not pair:
            raise DataError(
                f"{root}: {other.image} and {pair.image} have one name, and lists of names say "
                "which split they are of; rename one"
            )
    found, missing = [], []
    for split, name in lists.items():
        for line in read_lines(root, name, files.read):
            pair = next((by_stem[stem] for stem in names_in(line) if stem in by_stem), None)
            if pair:
                found.append(pair._replace(split=split))
            else:
                missing.append(f"{name}: {line}")
    if not found:
        raise DataError(f"{root}: no image is in {', '.join(lists.values())}, e.g. {missing[:1]}")
    in_lists = {pair.image for pair in found}
    alone = [pair.image for pair in pairs if pair.image not in in_lists]
    more = {"in no list": alone, "listed and not there": missing}
    return found, left_out | {reason: names for reason, names in more.items() if names}

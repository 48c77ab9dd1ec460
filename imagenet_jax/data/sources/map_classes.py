"""The classes of maps of pixels: their names in a file beside them, or the levels that occur."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from absl import logging

from imagenet_jax.data.sources.files import Files
from imagenet_jax.data.sources.label_files import read_lines, repeated, yaml_names
from imagenet_jax.errors import DataError
from imagenet_jax.terminal import working

NO_CLASS = 255  # the level of pixels that count for nothing
MASKS = {
    *("masks", "mask", "segmentation", "segmentations", "segmentationclass", "semantic"),
    *("annotations", "annotation", "labels", "label", "gtfine", "gt", "ground_truth"),
}
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_NAMES = ("classes.json", "classes.txt", "names.txt", "labels.txt", "data.yaml")
_LOOKED_AT = 20  # maps, to see whether there are several classes


def folders_of(name: str) -> list[str]:
    """The folders of a file, in small letters."""
    return [part.lower() for part in PurePosixPath(name).parts[:-1]]


def map_class_names(root: str, files: Files, masks: Sequence[str]) -> tuple[str, ...]:
    """Those that a file says, or VOC's; else numbers up to the largest level of all maps."""
    found = [name for name in files.names if PurePosixPath(name).name.lower() in _NAMES]
    among = [name for name in found if MASKS.intersection(folders_of(name))]
    found = among or found
    if len(found) > 1:
        raise DataError(f"{root} has several files that name its classes: {', '.join(found[:3])}")
    if found:
        return _read_names(root, found[0], files)
    folders = {part for mask in masks for part in folders_of(mask)}
    folders |= {*PurePosixPath(root.lower()).parts[-2:]}
    if any(folder.startswith(("vocdevkit", "voc20")) for folder in folders):
        return VOC
    largest = _largest_level(root, files, sorted(masks))
    if not largest:
        raise DataError(
            f"{root}: the maps have the level 0 alone, and maybe {NO_CLASS}, which is no class: "
            "write the number of its class into the pixels of a thing, 1 for the first"
        )
    return tuple(map(str, range(largest + 1)))


def _read_names(root: str, file: str, files: Files) -> tuple[str, ...]:
    where = f"{root}/{file}"
    kind = PurePosixPath(file).suffix.lower()
    if kind == ".json":
        try:
            names = json.loads(files.read(file))
            if isinstance(names, dict) and all(isinstance(value, int) for value in names.values()):
                names = {str(number): name for name, number in names.items()}
            if isinstance(names, dict):
                count = 1 + max(map(int, names), default=-1)
                if not 0 < count <= NO_CLASS or min(map(int, names)) < 0:
                    raise ValueError(f"the numbers are not of 0 to {NO_CLASS - 1}")
                # A number that is left out, as some of COCO's 91 are, is the name of its class.
                names = [names.get(str(number), str(number)) for number in range(count)]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError("it is something else")
        except (ValueError, LookupError, TypeError, RecursionError, OSError) as error:
            raise DataError(
                f"{where}: expected a list of names, or {{NUMBER: NAME}}: {error}"
            ) from error
    else:
        lines = read_lines(root, file, files.read)
        names = yaml_names(where, "\n".join(lines)) if kind == ".yaml" else lines
    if twice := repeated(names):
        raise DataError(f"{where} has the class {twice!r} twice; rename one, or merge them")
    if not 1 < len(names) <= NO_CLASS:
        raise DataError(
            f"{where} has {len(names)} classes; expected 2 to {NO_CLASS}, the ground among them"
        )
    return tuple(names)


def _largest_level(root: str, files: Files, masks: Sequence[str]) -> int:
    from imagenet_jax.data.images.class_map import map_levels

    largest = 0
    with working(f"{root}: looking for the classes in {len(masks):,} maps") as show:
        for number, name in enumerate(masks, 1):
            try:
                levels = map_levels(files.read(name), name)
            except (ValueError, OSError) as error:
                raise DataError(f"{root}/{name}: {error}") from error
            largest = max(largest, int(levels[levels != NO_CLASS].max(initial=0)))
            if number % 100 == 0:
                show(f"{root}: looking for the classes: {number:,} of {len(masks):,} maps")
    return largest


def warn_of_one_class(root: str, files: Files, masks: Sequence[str]) -> None:
    """Says so if a few maps from all over have one class alone, as those of 0 and 255 do."""
    from imagenet_jax.data.images.class_map import map_levels

    levels: set[int] = set()
    places = np.unique(np.linspace(0, len(masks) - 1, _LOOKED_AT).astype(int))
    for place in places.tolist():
        with contextlib.suppress(ValueError, OSError):  # told where it is read
            levels |= {*np.unique(map_levels(files.read(masks[place]), masks[place])).tolist()}
        if len(levels - {NO_CLASS}) > 1:
            return
    logging.warning(
        "%s: %d maps were looked at, and all their pixels are of class %s%s: nothing is to be told",
        *(root, len(places), *(levels - {NO_CLASS} or ("none",))),
        f" or {NO_CLASS}, which is no class" if NO_CLASS in levels else "",
    )

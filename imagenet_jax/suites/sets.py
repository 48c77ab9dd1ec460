"""Opens the sets of images of evaluation suites, in the formats in which they are published."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import ml_collections
import numpy as np

from imagenet_jax.data import Split, open_split
from imagenet_jax.data.images.decode import decode_image
from imagenet_jax.data.sources.classes import SEVERAL
from imagenet_jax.data.sources.files import Files, FileSource, Listing, folder_files, zip_files
from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, Entry, find_images
from imagenet_jax.errors import DataError
from imagenet_jax.suites.table import Part, objectnet_classes, subset

WRONG, RIGHT, LEFT_OUT = 0, 1, 2  # what a batch says of a class: see `SuiteSplit`
_BORDER = 2  # pixels of red around ObjectNet's images, as evaluations of it cut them
_REAL_LABELS = "real.json"
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)


@dataclasses.dataclass
class SuiteSplit(Split):
    """A set of a suite; of its batches `labels` uint8 [b, K] has one of these for each class.

    RIGHT: an answer that is right, for an image that may have several; WRONG: one that is not;
    LEFT_OUT: the class is not compared with the others. An image without a right one counts not.

    Attributes:
      classes: ImageNet's numbers int [K] of the classifier's classes.
      compared: bool [K], those that are compared.
      images_left_out: how many were not even listed, as they have no class.
    """

    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(len(SYNSETS)))
    compared: np.ndarray = dataclasses.field(default_factory=lambda: np.ones(len(SYNSETS), bool))
    images_left_out: int = 0

    def eval_batches(self, rows: np.ndarray, batch_size: int) -> Iterator[dict]:
        for batch in super().eval_batches(rows, batch_size):
            right = batch[SEVERAL][:, self.classes]
            yield {**batch, SEVERAL: np.where(self.compared, right, np.uint8(LEFT_OUT))}


def open_set(config: ml_collections.ConfigDict, part: Part, classes: np.ndarray) -> SuiteSplit:
    """Opens the images of a part.

    Args:
      config: of the classifier: how images get to it.
      part: see `table.find_suites`.
      classes: ImageNet's numbers int [K] of the classifier's classes.

    Raises:
      DataError: for what is missing, damaged or laid out otherwise than published.
    """
    config = config.copy_and_resolve_references()
    # Those are published as they are to be seen: nothing is cut off.
    crop = "resize" if part.name.startswith("c/") else config.data.eval_crop
    config.data.update(folds=0, cache=False, eval_crop=crop)
    left_out = 0
    if part.kind == "tfds":
        config.data.update(name=part.path, train_split="", eval_split=part.suite.split)
        source = open_split(config, train=False, reads=(SEVERAL,)).source
        if source.class_names != SYNSETS:
            raise DataError(
                f"suite {part.name}: the classes of {part.path} are not ImageNet's 1000"
            )
    else:
        try:
            source, left_out = _open_files(part, config.data)
        except DataError as error:
            raise DataError(f"suite {part.name}: {error}") from error
    known = set(subset(part.suite.column))
    compared = np.array([SYNSETS[number] in known for number in classes])
    facts = {"found": part.name, "classes": classes, "compared": compared}
    return SuiteSplit(config, source, train=False, images_left_out=left_out, **facts)


def _open_files(part: Part, data: ml_collections.ConfigDict) -> tuple[FileSource, int]:
    """The images of a folder or an archive that have a class, and how many have none."""
    files = (folder_files if part.kind == "folder" else zip_files)(Path(part.path))
    images, _ = find_images(files.names, files.beginning)
    synsets_of = _labels(part, files)
    entries = [Entry(DEFAULT_SPLIT, synsets_of(image), image) for image in images]
    shown = [entry for entry in entries if entry.class_names]
    if not shown:
        raise DataError(f"{part.path} has no image that counts, of {len(images):,}")
    read = files.read
    if part.suite.folder_is == "objectnet":

        def read(name: str) -> bytes:
            return _without_border(files.read(name), data)

    listing = Listing(part.path, shown, read, files.size_of, {}, SYNSETS)
    return FileSource(listing, DEFAULT_SPLIT, (SEVERAL,)), len(images) - len(shown)


def _labels(part: Part, files: Files) -> Callable[[str], tuple[str, ...]]:
    """Gives the synsets that are right for an image, by its path."""
    kind, path = part.suite.folder_is, part.path
    if not kind:
        return _reassessed(path, files)
    if kind == "objectnet":
        classes = objectnet_classes()
        return lambda image: classes.get(PurePosixPath(image).parent.name, ())
    known = subset(part.suite.column)
    names = map(str, range(len(known))) if kind == "number" else known
    by_folder = {name: (synset,) for name, synset in zip(names, known, strict=True)}

    def of_folder(image: str) -> tuple[str, ...]:
        folder = PurePosixPath(image).parent.name
        if folder not in by_folder:
            first, *_, last = by_folder
            raise DataError(
                f"{path}/{image} is in the folder {folder!r}, which is none of the "
                f"{len(by_folder)} classes, {first} to {last}: another set, or another layout"
            )
        return by_folder[folder]

    return of_folder


def _reassessed(path: str, files: Files) -> Callable[[str], tuple[str, ...]]:
    """Labels of real.json: a list for each validation image, in the order of their numbers."""
    found = [name for name in files.names if PurePosixPath(name).name == _REAL_LABELS]
    if len(found) != 1:
        raise DataError(
            f"{path} has {len(found)} files {_REAL_LABELS}; put the one with the labels beside "
            "ImageNet's validation images"
        )
    try:
        lists = json.loads(files.read(found[0]))
        labels = [tuple(SYNSETS[check_number(number)] for number in one) for one in lists]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}/{found[0]}: expected lists of labels 0 to 999: {error}") from error

    def of_number(image: str) -> tuple[str, ...]:
        match = _VALIDATION.fullmatch(PurePosixPath(image).name)
        if not match or not 0 < int(match[1]) <= len(labels):
            raise DataError(
                f"{path}/{image}: expected ILSVRC2012_val_00000001.JPEG to "
                f"ILSVRC2012_val_{len(labels):08d}.JPEG, which {_REAL_LABELS} has labels of"
            )
        return labels[int(match[1]) - 1]

    return of_number


def check_number(number: int) -> int:
    """The number of a class. Raises ValueError."""
    if type(number) is not int or not 0 <= number < len(SYNSETS):
        raise ValueError(f"{number!r} is no label")
    return number


def _without_border(encoded: bytes, data: ml_collections.ConfigDict) -> bytes:
    """An image without its outermost pixels, as a binary PPM, which is read without loss."""
    pixels = decode_image(
        encoded, exif_orientation=data.exif_orientation, max_pixels=data.max_pixels
    )
    height, width = (side - 2 * _BORDER for side in pixels.shape[:2])
    if min(height, width) < 1:
        raise ValueError(f"it has {pixels.shape[0]} x {pixels.shape[1]} pixels, a border of 2 too")
    inner = pixels[_BORDER : _BORDER + height, _BORDER : _BORDER + width]
    return b"P6\n%d %d\n255\n" % (width, height) + inner.tobytes()

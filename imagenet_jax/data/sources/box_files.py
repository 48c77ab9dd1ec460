"""Photos with boxes in a folder or a zip archive: COCO's, Pascal VOC's and YOLO's layouts."""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imagenet_jax.data.names import TEST, VALIDATION, existing, split_there
from imagenet_jax.data.sources.files import Files, folder_files, zip_files
from imagenet_jax.data.sources.held_out import HeldOut
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT, LeftOut, left_out_text
from imagenet_jax.data.sources.objects import BOXES, Objects, object_fields
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.errors import DataError

READERS = {"coco": "coco_json", "voc": "voc_xml", "yolo": "yolo_text"}  # files beside this one


class Photo(NamedTuple):
    """An image and its objects; and the map of these, if there is one."""

    split: str
    image: str
    objects: Objects
    instances: str = ""


class Found(NamedTuple):
    """What a reader finds.

    Attributes:
      photos: of all splits.
      class_names: in the order of their numbers.
      left_out: {what: places} of what is left out, or kept otherwise than it is written.
    """

    photos: list[Photo]
    class_names: tuple[str, ...]
    left_out: LeftOut


class BoxSource:
    """A split of photos with boxes; see `source.EncodedSource`.

    The value of the field boxes of each is `objects.Objects`, of which all fields are made.
    """

    def __init__(
        self, root: str, files: Files, found: Found, split: str, most: int, masks: bool = False
    ):
        """Takes the photos of a split; most, masks: see `objects.object_fields`."""
        photos = (photo for photo in found.photos if photo.split == split)
        self._photos = sorted(photos, key=lambda photo: photo.image)
        self._root, self._files, self.split = root, files, split
        self.class_names, self.left_out = found.class_names, found.left_out
        self.fields = object_fields(most, masks)

    def __len__(self) -> int:
        return len(self._photos)

    def read(self, index: np.ndarray) -> tuple[list[bytes], dict[str, list[Objects]]]:
        photos = [self._photos[i] for i in index]
        images = [self._files.read(photo.image) for photo in photos]
        return images, {BOXES: list(map(self._with_map, photos))}

    def objects(self, index: int) -> Objects:
        """What is in an image."""
        return self._with_map(self._photos[index])

    def _with_map(self, photo: Photo) -> Objects:
        if not photo.instances:
            return photo.objects
        return photo.objects._replace(instances=self._files.read(photo.instances))

    def name(self, index: int) -> str:
        return self._photos[index].image

    def describe(self, index: int) -> str:
        return f"{self._root}/{self._photos[index].image}"

    def stamp(self) -> str:
        """Another one when files come, go or change their size, or their objects change."""
        facts = hashlib.sha1(repr(self.class_names).encode())
        for photo in self._photos:
            facts.update(f"{photo.image}\0{self._files.size_of(photo.image)}\n".encode())
            for array in photo.objects[:5]:
                facts.update(array.tobytes())
            for outline in photo.objects.outlines or ():
                polygons = outline if isinstance(outline, tuple) else ()
                facts.update(b"".join(map(np.ndarray.tobytes, polygons)) or repr(outline).encode())
            if photo.instances:
                facts.update(f"{self._files.size_of(photo.instances)}\n".encode())
        return facts.hexdigest()

    def groups(self) -> np.ndarray:
        """0 for each image: they are of no single class."""
        return np.zeros(len(self), np.int32)

    def labels_of(self, index: int) -> list[int]:
        """The numbers of the classes that an image has objects of."""
        return sorted({*self._photos[index].objects.labels.tolist()})

    def class_counts(self) -> np.ndarray:
        """How many images have objects of each class, int64 [K]."""
        labels = [label for index in range(len(self)) for label in self.labels_of(index)]
        return np.bincount(np.array(labels, np.int64), minlength=len(self.class_names))


def open_boxes(
    kind: str,
    path: str,
    split: str,
    reads: Sequence[str] = (BOXES,),
    default: bool = False,
    most: int = 100,
) -> BoxSource | HeldOut:
    """A split of `coco:PATH`, `voc:PATH` or `yolo:PATH`.

    Args:
      kind, path: of data.name.
      split: its name.
      reads: what the task needs.
      default: see `files.open_files`.
      most: objects of an image, see `objects.object_fields`.

    Raises:
      DataError: for annotations that are missing or cannot be read, or no such split.
    """
    if tuple(reads) not in ((BOXES,), (BOXES, OBJECT_MASKS)):
        raise DataError(
            f"{kind}:{path} has boxes, and config.task needs {', '.join(reads)}; set "
            "config.task=detection, or --task=detection of prepare"
        )
    masks = OBJECT_MASKS in reads
    root, files, found = _found(kind, path, masks)
    if found.photos and not any(len(photo.objects.labels) for photo in found.photos):
        others = left_out_text(found.left_out)
        raise DataError(
            f"{root}: no image has an object"
            + (f"; left out, or kept so: {others}" if others else "")
        )
    splits = sorted({photo.split for photo in found.photos})
    whole = default and len(splits) == 1 and splits[0].lower() not in (*VALIDATION, *TEST)
    wanted = splits[0] if whole else split_there(split, splits, default)
    source = BoxSource(root, files, found, wanted, most, masks)
    if not len(source):
        others = left_out_text(found.left_out)
        raise DataError(
            f"{root}: no images in {split!r} (splits found: {', '.join(splits) or 'none'}"
            + (f"; left out: {others}" if others else "")
            + "). Set data.train_split and data.eval_split"
        )
    return HeldOut(source, split == DEFAULT_SPLIT) if whole else source


def box_splits(kind: str, path: str, masks: bool = False) -> list[str]:
    """The names of the splits of `coco:PATH`, `voc:PATH` or `yolo:PATH`; those with masks."""
    return sorted({photo.split for photo in _found(kind, path, masks)[2].photos})


def _found(kind: str, path: str, masks: bool = False) -> tuple[str, Files, Found]:
    file, only = existing(kind, path), ""
    if file.suffix.lower() == ".json":  # COCO's annotations, in a folder of their own or not
        only = file.name
        parent = file.parent
        file = parent.parent if parent.name.lower() == "annotations" else parent
        only = str(Path(parent.name) / only) if file != parent else only
    files = folder_files(file) if file.is_dir() else zip_files(file)
    reader = importlib.import_module(f"imagenet_jax.data.sources.{READERS[kind]}")
    arguments = (only,) if only else ()
    return str(file), files, reader.find_photos(str(file), files, *arguments, masks=masks)

"""One shard of a data set: read its images, check them, store them again; in any process."""

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from imagenet_jax.atomic import replace_text
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.images.decode import decode_image
from imagenet_jax.data.names import BOX_FILES, place_of
from imagenet_jax.data.preparation.stored_objects import OBJECTS, object_features, stored_objects
from imagenet_jax.data.sources import records
from imagenet_jax.data.sources.box_files import open_boxes
from imagenet_jax.data.sources.classes import ONE, SEVERAL, numbers_of
from imagenet_jax.data.sources.files import open_files
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.tfrecord_folder import open_tfrecord_folder

MAX_PIXELS = 2**27
_READ = 32  # images read at a time


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Attributes:
      short_side: pixels that a longer short side is shrunk to, by Pillow's antialiased bicubic
        resize; 0: the files are stored as they are.
      kind: "jpeg", or "raw": binary PPM, 8 bits RGB.
      quality: of the JPEG (4:2:0), 1 to 95.
    """

    short_side: int = 0
    kind: str = "jpeg"
    quality: int = 90

    def features(
        self, class_names: tuple[str, ...], reads: Sequence[str] = (ONE,)
    ) -> tfds.features.FeaturesDict:
        """TFDS's features of the data set; `reads` says whether images have several labels, or
        objects."""
        label = tfds.features.ClassLabel(names=list(class_names))
        as_stored = self.short_side and self.kind == "raw"
        if BOXES in reads:
            known = {OBJECTS: object_features(class_names)}
        else:
            known = {reads[0]: tfds.features.Sequence(label) if SEVERAL in reads else label}
        return tfds.features.FeaturesDict(
            {
                # TensorFlow does not know PPM: TFDS hands on the file's bytes.
                "image": tfds.features.Text() if as_stored else tfds.features.Image(),
                **known,
                "file_name": tfds.features.Text(),
            }
        )

    def scale(self, sides: Sequence[int]) -> float:
        """By what the sides of an image are multiplied, 1 at most."""
        return min(1.0, self.short_side / min(sides)) if self.short_side else 1.0

    def stored(self, encoded: bytes, pixels: np.ndarray) -> bytes:
        """What is stored of a file with these (upright) pixels uint8 [H, W, 3]."""
        if not self.short_side:
            return encoded
        image = Image.fromarray(pixels)
        scale = self.scale(image.size)
        if scale < 1:
            size = [max(self.short_side, round(side * scale)) for side in image.size]
            image = image.resize(size, Image.Resampling.BICUBIC)
        if self.kind == "raw":
            return b"P6\n%d %d\n255\n" % image.size + image.tobytes()
        file = io.BytesIO()
        image.save(file, "JPEG", quality=self.quality)
        return file.getvalue()


AS_THEY_ARE = Encoding()


class Shard(NamedTuple):
    """A task: store the examples `index` of a split of `spec` in the file `path`."""

    spec: str  # folder:PATH and its like, or the name of a TFDS data set
    data_dir: str  # of the TFDS data set
    split: str
    index: np.ndarray
    encoding: Encoding
    path: str | None  # its suffix names the format; None: the examples are only checked
    reads: tuple[str, ...] = (ONE,)  # see `files.open_files`


class Fact(NamedTuple):
    """What is known of an example after it was read."""

    name: str
    labels: tuple[int, ...]  # of its objects, where it has any
    width: int  # pixels, of the upright image before it was resized
    height: int
    sha1: str  # of the file; two examples with the same are duplicates
    size: int  # bytes stored
    error: str  # why it cannot be read; "" for those that are stored
    areas: tuple[float, ...] = ()  # of its objects, in pixels of what is stored


def facts_path(shard_path: str | Path) -> Path:
    """Where the facts of a finished shard are kept until the data set is complete."""
    return Path(f"{shard_path}.facts.json")


def do_shard(shard: Shard) -> list[Fact]:
    """Checks the examples of a shard and stores those that can be read.

    The file, and then its facts, get their names when they are complete.
    """
    source = open_source(shard.spec, shard.data_dir, shard.split, shard.reads)
    features = shard.encoding.features(source.class_names, shard.reads)
    partial = f"{shard.path}.partial"
    writer = _writer(partial, shard.path) if shard.path else None
    facts = []
    for start in range(0, len(shard.index), _READ):
        for index in shard.index[start : start + _READ]:
            fact, stored, things = check_example(source, int(index), shard.encoding)
            facts.append(fact)
            if writer and not fact.error:
                known = {OBJECTS: things}
                if BOXES not in shard.reads:
                    labels = list(fact.labels) if SEVERAL in shard.reads else fact.labels[0]
                    known = {shard.reads[0]: labels}
                example = {"image": stored, **known, "file_name": fact.name}
                if isinstance(features["image"], tfds.features.Image):
                    example["image"] = io.BytesIO(stored)
                writer.write(features.serialize_example(features.encode_example(example)))
    if writer:
        writer.close()
        replace_synced(partial, shard.path)
        replace_text(facts_path(shard.path), json.dumps([tuple(fact) for fact in facts]))
    return facts


def check_example(
    source: Any, index: int, encoding: Encoding
) -> tuple[Fact, bytes, list[dict[str, Any]]]:
    """Reads an example and gives what is known of it and what is to be stored: a file, and its
    objects, if it has such."""
    name, labels, encoded, things = "", (), b"", []
    try:
        name = source.describe(index)
        name = source.name(index)
        (encoded,), values = source.read(np.array([index]))
        objects = values[BOXES][0] if BOXES in values else None
        labels = numbers_of(values, 0) if objects is None else tuple(objects.labels.tolist())
        pixels = decode_image(encoded, exif_orientation=True, max_pixels=MAX_PIXELS)
        if objects is not None:
            things = stored_objects(objects, pixels.shape[:2], encoding.scale(pixels.shape[:2]))
    except Exception as error:  # of Pillow, TensorFlow, protobuf, array_record, ...
        return Fact(name, labels, 0, 0, "", 0, str(error) or type(error).__name__), b"", []
    height, width = pixels.shape[:2]
    stored = encoding.stored(encoded, pixels)
    sha1 = hashlib.sha1(encoded).hexdigest()
    areas = tuple(thing["area"] for thing in things)
    return Fact(name, labels, width, height, sha1, len(stored), "", areas), stored, things


@functools.lru_cache(maxsize=8)
def open_source(spec: str, data_dir: str, split: str, reads: tuple[str, ...]) -> Any:
    """The source of a split of files, of other TFRecords or of a prepared TFDS data set."""
    kind, path = place_of(spec) or ("", "")
    if kind == "tfrecord":
        return open_tfrecord_folder(path, split, reads)
    if kind in BOX_FILES:
        return open_boxes(kind, path, split, reads)
    if path:
        return open_files(kind, path, split, reads)
    return records.split_source(records.find_builder(spec, data_dir), split, reads)


def _writer(partial: str, path: str) -> Any:
    if ".tfrecord-" in path:
        return tf.io.TFRecordWriter(partial)
    # One record a group has random access; JPEGs do not shrink, and raw pixels must be fast.
    return array_record_module.ArrayRecordWriter(partial, "group_size:1,uncompressed")


def replace_synced(partial: str | Path, path: str | Path) -> None:
    """Gives a file its name once it is on the disk."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)

"""One shard of a data set: read its images, check them, store them again; in any process."""

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from imagenet_jax.atomic import replace_text
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.images.decode import decode_image
from imagenet_jax.data.names import BOX_FILES, MASKS, place_of
from imagenet_jax.data.preparation.stored_fields import field_features, known_fields
from imagenet_jax.data.sources import records
from imagenet_jax.data.sources.box_files import open_boxes
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.data.sources.files import open_files
from imagenet_jax.data.sources.masks import open_masks
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
        """TFDS's features of the data set; `reads` says what examples have beside an image."""
        as_stored = self.short_side and self.kind == "raw"
        return tfds.features.FeaturesDict(
            {
                # TensorFlow does not know PPM: TFDS hands on the file's bytes.
                "image": tfds.features.Text() if as_stored else tfds.features.Image(),
                **field_features(class_names, reads),
                "file_name": tfds.features.Text(),
            }
        )

    def size(self, sides: Sequence[int]) -> tuple[int, ...]:
        """The sides of what is stored of an image with these, none larger."""
        if not self.short_side or self.short_side >= min(sides):
            return tuple(sides)
        scale = self.short_side / min(sides)
        return tuple(max(self.short_side, round(side * scale)) for side in sides)

    def stored(self, encoded: bytes, pixels: np.ndarray) -> bytes:
        """What is stored of a file with these (upright) pixels uint8 [H, W, 3]."""
        if not self.short_side:
            return encoded
        image = Image.fromarray(pixels)
        size = self.size(image.size)
        if size != image.size:
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
    class_names: tuple[str, ...] = ()  # of maps of classes; (): look for them


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
    where = shard.spec, shard.data_dir, shard.split, shard.reads
    source = open_source(*where, shard.class_names)
    features = shard.encoding.features(source.class_names, shard.reads)
    partial = f"{shard.path}.partial"
    writer = _writer(partial, shard.path) if shard.path else None
    facts = []
    for start in range(0, len(shard.index), _READ):
        for index in shard.index[start : start + _READ]:
            how = shard.encoding, shard.reads
            fact, stored, fields = check_example(source, int(index), *how)
            facts.append(fact)
            if writer and not fact.error:
                example = {"image": stored, **fields, "file_name": fact.name}
                if isinstance(features["image"], tfds.features.Image):
                    example["image"] = io.BytesIO(stored)
                writer.write(features.serialize_example(features.encode_example(example)))
    if writer:
        writer.close()
        replace_synced(partial, shard.path)
        replace_text(facts_path(shard.path), json.dumps([tuple(fact) for fact in facts]))
    return facts


def check_example(
    source: Any, index: int, encoding: Encoding, reads: Sequence[str] = (ONE,)
) -> tuple[Fact, bytes, Mapping[str, Any]]:
    """Reads an example and gives what is known of it and what is to be stored: a file, and what
    there is beside it."""
    name, encoded = "", b""
    try:
        name = source.describe(index)
        name = source.name(index)
        (encoded,), values = source.read(np.array([index]))
        pixels = decode_image(encoded, exif_orientation=True, max_pixels=MAX_PIXELS)
        height, width = shape = pixels.shape[:2]
        known = known_fields(values, source.fields, reads, shape, encoding.size(shape))
    except Exception as error:  # of Pillow, TensorFlow, protobuf, array_record, ...
        return Fact(name, (), 0, 0, "", 0, str(error) or type(error).__name__), b"", {}
    stored = encoding.stored(encoded, pixels)
    sha1 = hashlib.sha1(encoded).hexdigest()
    bytes_stored = len(stored) + known.size
    fact = Fact(name, known.labels, width, height, sha1, bytes_stored, "", known.areas)
    return fact, stored, known.fields


@functools.lru_cache(maxsize=8)
def open_source(
    spec: str,
    data_dir: str,
    split: str,
    reads: tuple[str, ...],
    class_names: tuple[str, ...] = (),
) -> Any:
    """The source of a split of files, of other TFRecords or of a prepared TFDS data set."""
    kind, path = place_of(spec) or ("", "")
    if kind == "tfrecord":
        return open_tfrecord_folder(path, split, reads)
    if kind in BOX_FILES:
        return open_boxes(kind, path, split, reads)
    if kind == MASKS:
        return open_masks(path, split, reads, class_names=class_names)
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

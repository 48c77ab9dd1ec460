"""A few rows of a batch, from their numbers to pixels: read, decode, resize.

TensorFlow decodes the boxes of plain JPEGs, so that no thread waits for Python's lock and
nothing is decoded but the box; Pillow decodes all other files; OpenCV or Pillow resize.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.images.class_map import decode_map
from imagenet_jax.data.images.decode import check_size, decode_image
from imagenet_jax.data.images.jpeg import Header, read_header
from imagenet_jax.data.images.object_crop import ssd_crop
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.order import Rows
from imagenet_jax.data.sources.objects import (
    BOXES,
    as_they_are,
    in_pixels,
    object_fields,
    placed,
)
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.source import EncodedSource, Field, ImpossibleValue

READ = {
    "encoded": tf.TensorSpec((None,), tf.string),  # plain JPEGs; empty: nothing to decode
    "box": tf.TensorSpec((None, 4), tf.int32),  # in pixels of the halved image
    "halvings": tf.TensorSpec((None,), tf.int32),  # 0 to 3; -1: nothing to decode
    "place": tf.TensorSpec((None, None), tf.int32),  # where a box comes, if objects decide on it
    "ready": tf.TensorSpec((None, None, None, 3), tf.uint8),  # images of other files, in order
    "mask": tf.TensorSpec((None,), tf.bool),
    "index": tf.TensorSpec((None,), tf.int32),
    "epoch": tf.TensorSpec((None,), tf.int32),
}

FINISH = ("mask", "halvings", "place", "ready", "index", "epoch")  # what `finish` takes


@dataclasses.dataclass(frozen=True)
class ChunkMaker:
    """Makes chunks of a source's images as `preprocess` says."""

    source: EncodedSource
    preprocess: Preprocess

    @functools.cached_property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """What `read` gives: `READ` and the fields of the source."""
        fields = {
            name: tf.TensorSpec((None, *field.shape), tf.as_dtype(field.dtype))
            for name, field in self.fields.items()
        }
        return {**READ, **fields}

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """Those of the source, of maps with their size."""
        size = self.preprocess.size
        return {name: field.sized(size) for name, field in self.source.fields.items()}

    def read(self, rows: Rows) -> dict[str, np.ndarray]:
        """Reads the files of k rows and decides what to cut out; arrays as in `specs`.

        Raises:
          Exception: of any kind, for a row that cannot be read.
        """
        mask, count = rows.mask, len(rows.index)
        encoded = np.full(count, b"", object)
        files, values = self.source.read(rows.index[mask]) if mask.any() else ([], {})
        shape, pixels = np.ones((count, 2), np.int32), {}
        for row, file in zip(np.flatnonzero(mask).tolist(), files, strict=True):
            header = read_header(file)
            if header is not None and self._is_plain(header):
                check_size(header.height, header.width, self.preprocess.data.max_pixels)
                encoded[row], shape[row] = bytes(file), (header.height, header.width)
            else:
                pixels[row] = self._decode_other(file)
                shape[row] = pixels[row].shape[:2]
        box = self.preprocess.boxes(shape, rows.index, rows.epoch)
        place, seen = self._around_objects(values, rows, shape, box)
        ready = _empty(len(pixels), *self.preprocess.shape)
        for image, (row, whole) in zip(ready, pixels.items(), strict=True):
            top, left, height, width = box[row]
            crop = whole[top : top + height, left : left + width]
            example = int(rows.index[row]), int(rows.epoch[row])
            self.preprocess.finish(crop, image, *example, place[row].tolist())
        whole_box = box.copy()
        halvings = np.where(encoded == b"", -1, self.preprocess.halvings(box)).astype(np.int32)
        box >>= np.maximum(halvings, 0)[:, None]
        columns = encoded, box, halvings, place, ready, mask, rows.index, rows.epoch
        where = shape, whole_box, place
        values = self._objects(values, rows, *where, seen)
        fields = self._fields(values, mask) | self._maps(values, rows, *where)
        return dict(zip(READ, columns, strict=True)) | fields

    def decode(self, chunk: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """The boxes of a chunk that `read` gave, k tensors uint8 [h, w, 3]; empty for others."""
        columns = [chunk[name] for name in ("encoded", "box", "halvings")]
        jpegs = zip(*(tf.unstack(c, c.shape[0]) for c in columns), strict=True)
        return [_decode_box(*jpeg) for jpeg in jpegs]

    def finish(
        self,
        mask: np.ndarray,
        halvings: np.ndarray,
        place: np.ndarray,
        ready: np.ndarray,
        index: np.ndarray,
        epoch: np.ndarray,
        *crops: np.ndarray,
    ) -> np.ndarray:
        """The images uint8 [k, *preprocess.shape] of a chunk; black where mask is False."""
        if len(ready) == len(mask):
            return ready
        image, others = _empty(len(mask), *self.preprocess.shape), iter(ready)
        for row, crop in enumerate(crops):
            if halvings[row] >= 0:
                example = int(index[row]), int(epoch[row])
                self.preprocess.finish(crop, image[row], *example, place[row].tolist())
            else:
                image[row] = next(others) if mask[row] else 0
        return image

    def one(self, rows: Rows) -> dict[str, np.ndarray]:
        """A chunk of a single row, made at once. Raises whatever is wrong with it."""
        chunk = self.read(rows)
        crops = self.decode({name: tf.constant(array) for name, array in chunk.items()})
        crops = [crop.numpy() for crop in crops]
        image = self.finish(*(chunk[name] for name in FINISH), *crops)
        return {"image": image, **chunk}

    def _is_plain(self, header: Header) -> bool:
        upright = header.orientation == 1 or not self.preprocess.data.exif_orientation
        return upright and header.channels in (1, 3) and header.bits == 8

    def _decode_other(self, encoded: bytes) -> np.ndarray:
        data = self.preprocess.data
        return decode_image(
            encoded, exif_orientation=data.exif_orientation, max_pixels=data.max_pixels
        )

    def _fields(
        self, values: Mapping[str, Sequence[np.ndarray]], mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The source's values of the rows with mask True, and padding; none of maps."""
        fields = {}
        for name, field in self.fields.items():
            if self.source.fields[name].is_map:
                continue
            fields[name] = array = field.filled(len(mask))
            for row, value in zip(np.flatnonzero(mask), values.get(name, ()), strict=True):
                if not field.shape:
                    array[row] = value
                    continue
                if len(value) > field.shape[0]:
                    raise ValueError(f"it has {len(value)} {name}, at most {field.shape[0]} fit")
                array[row, : len(value)] = value
        return fields

    def _around_objects(
        self, values: Mapping[str, Sequence[Any]], rows: Rows, shape: np.ndarray, box: np.ndarray
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Where boxes come, int32 [k, 4], and which objects count, where these decide on it; then
        also changes `box`. Else int32 [k, 0] and {}."""
        if self.preprocess.rule != "ssd_crop":
            return np.zeros((len(rows.mask), 0), np.int32), {}
        place, seen = np.zeros((len(rows.mask), 4), np.int32), {}
        for row, objects in zip(
            np.flatnonzero(rows.mask).tolist(), values.get(BOXES, ()), strict=True
        ):
            whole = tuple(shape[row].tolist())
            there = in_pixels(objects, whole)[~objects.crowd]
            example = int(rows.epoch[row]), int(rows.index[row])
            how = self.preprocess.size, self.preprocess.seed, *example
            box[row], place[row], seen[row] = ssd_crop(whole, there, *how)
        return place, seen

    def _objects(
        self,
        values: Mapping[str, Sequence[Any]],
        rows: Rows,
        shape: np.ndarray,
        box: np.ndarray,
        places: np.ndarray,
        seen: Mapping[int, np.ndarray],
    ) -> Mapping[str, Sequence[Any]]:
        """The values with those of all fields of objects, where there are any."""
        if BOXES not in values:
            return values
        most, found = self.source.fields[BOXES].shape[0], []
        for row, objects in zip(np.flatnonzero(rows.mask), values[BOXES], strict=True):
            whole = tuple(shape[row].tolist())
            if not self.preprocess.train:
                found.append(as_they_are(objects, whole, most))
                continue
            example = int(rows.index[row]), int(rows.epoch[row])
            place = places[row].tolist() or self.preprocess.place(box[row, 2:], *example)
            size = self.preprocess.size
            found.append(placed(objects, whole, box[row], place, size, most, seen.get(row)))
        names = object_fields(most, OBJECT_MASKS in self.source.fields)
        return {**values, **{name: [one[name] for one in found] for name in names}}

    def _maps(
        self,
        values: Mapping[str, Sequence[bytes]],
        rows: Rows,
        shape: np.ndarray,
        box: np.ndarray,
        places: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """The maps of the rows with mask True, cut out and resized as the images are."""
        fields = {}
        for name, field in self.source.fields.items():
            if not field.is_map:
                continue
            fields[name] = array = self.fields[name].filled(len(rows.mask))
            for row, file in zip(np.flatnonzero(rows.mask), values.get(name, ()), strict=True):
                whole = decode_map(file, shape[row], f"its {name}")
                if field.table:
                    whole = np.frombuffer(field.table, np.uint8)[whole]
                if (wrong := whole[(whole >= field.most) & (whole != field.padding)]).size:
                    raise ImpossibleValue(
                        f"level {wrong[0]} of its {name} is none of 0 to {field.most - 1}, nor "
                        f"{field.padding} for none"
                    )
                top, left, height, width = box[row]
                crop = whole[top : top + height, left : left + width]
                example = int(rows.index[row]), int(rows.epoch[row])
                self.preprocess.finish_map(crop, array[row], *example, places[row].tolist())
        return fields


def _empty(*shape: int) -> np.ndarray:
    """An array uint8 that TensorFlow takes over without a copy: it begins at a multiple of 64."""
    memory = np.empty(math.prod(shape) + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + math.prod(shape)].reshape(shape)


# One function for all rows and pipelines: a graph of its own for each row takes half a second.
@tf.function(
    input_signature=[
        tf.TensorSpec((), tf.string),
        tf.TensorSpec(4, tf.int32),
        tf.TensorSpec((), tf.int32),
    ],
    autograph=False,
)
def _decode_box(encoded: tf.Tensor, box: tf.Tensor, halvings: tf.Tensor) -> tf.Tensor:
    def at(ratio: int) -> tf.Tensor:
        return tf.io.decode_and_crop_jpeg(
            encoded, box, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    decode = [functools.partial(at, ratio) for ratio in (1, 2, 4, 8)]
    return tf.switch_case(halvings + 1, [lambda: tf.zeros((0, 0, 3), tf.uint8), *decode])

"""From a source and an order to batches: a tf.data pipeline that can start at any step.

A batch is made of chunks, which are read and decoded in parallel. Each is a function of its
number. So one that fails is noticed here, and made again row by row,
which finds the image to blame.
"""

import atexit
import contextlib
import dataclasses
import functools
import os
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import logging

from imagenet_jax.data.chunk import FINISH, ChunkMaker
from imagenet_jax.data.crop_views import CropViews
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.images.preprocess import Preprocess
from imagenet_jax.data.names import train_views
from imagenet_jax.data.order import Order, Rows
from imagenet_jax.data.several_images import SeveralImages
from imagenet_jax.data.sources.source import EncodedSource, ImpossibleValue
from imagenet_jax.errors import DataError

CHUNK = 32  # rows at most: they share the cost of the calls into Python
Arrays = dict[str, np.ndarray]

_NAMED = 3  # of the images of a chunk that cannot be read
_STACK = ("Graph execution error", "Detected at node", "File ", "<stack traces", "[[")

_FAILED = np.int64(-1)  # in place of the number of a chunk

_unfinished: weakref.WeakSet[Iterator[Arrays]] = weakref.WeakSet()


@atexit.register
def _close_unfinished() -> None:
    """Ends the threads of tf.data while Python lives: later they would hang or abort its exit."""
    for batches in list(_unfinished):
        with contextlib.suppress(ValueError):  # a thread is running it, and ends it
            batches.close()


@dataclasses.dataclass
class Pipeline:
    """The host pipeline of one split.

    Attributes:
      source: where encoded images come from.
      preprocess: what is cut out of them and how it is resized.
      fill: uint8 [3], the colour of a skipped image.
      unreadable: {index: "NAME: reason"} of the images that were skipped so far.
      keys: what a batch has, by name.
    """

    source: EncodedSource
    preprocess: Preprocess
    fill: np.ndarray
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._maker = ChunkMaker(self.source, self.preprocess)
        maps = tuple(name for name, field in self.source.fields.items() if field.is_map)
        data, train = self.preprocess.data, self.preprocess.train
        if data.crops + data.local_crops > 1:
            self.several = CropViews(data, train)
        else:
            self.several = SeveralImages(data, self.preprocess.seed, len(self.source), maps, train)
        self.keys = ("image", *self.source.fields, "mask", "index", "epoch")

    def batches(self, order: Order, start: int, stop: int) -> Iterator[Arrays]:
        """The batches of the steps start <= step < stop; see `data.Split`.

        With data.bad_images = "skip" an image that cannot be read is named in a warning; its
        row is masked and filled wherever it comes up.

        Raises:
          DataError: for such an image if bad_images is "fail", or if they are more than
            data.max_bad_fraction of the split.
        """
        made = self._batches(order, start, stop)
        _unfinished.add(made)
        return made

    def _batches(self, order: Order, start: int, stop: int) -> Iterator[Arrays]:
        rows = len(order.rows)
        count = -(-rows * (1 + self.several.others) // CHUNK)
        size = -(-rows // count)

        rows_at = functools.lru_cache(maxsize=8)(order)  # all chunks of a step ask for them

        def rows_of(number: int) -> Rows:
            step, part = divmod(int(number), count)
            return self.several.with_others(rows_at(step).part(part * size, size))

        ahead = count * self.preprocess.data.prefetch
        read = size * (1 + self.several.others)
        dataset = self._dataset(rows_of, start * count, stop * count, read).prefetch(ahead)
        chunks = self._in_order(dataset, rows_of, start * count, stop * count)
        for _ in range(start, stop):
            yield self._joined([next(chunks) for _ in range(count)], rows)

    def _dataset(
        self, rows_of: Callable[[int], Rows], start: int, stop: int, size: int
    ) -> tf.data.Dataset:
        """tf.data: chunk number -> read -> decode and resize.

        A chunk comes with its number, or -1 if something in it failed, and then an end mark of
        no rows: a failure is known at once, though all later chunks should fail as well.
        """
        specs = self._maker.specs
        workers = self.preprocess.data.workers or len(os.sched_getaffinity(0))
        shape = self.preprocess.shape

        def read(number: tf.Tensor) -> dict[str, tf.Tensor]:
            types = [tf.int64, *(spec.dtype for spec in specs.values())]
            number, *values = tf.numpy_function(
                lambda n: self._read(n, rows_of(n)), [number], types, False
            )
            chunk = dict(zip(specs, values, strict=True))
            for name, spec in specs.items():
                rows = None if name == "ready" else size
                chunk[name] = tf.ensure_shape(chunk[name], (rows, *spec.shape[1:]))
            return {"number": tf.ensure_shape(number, ()), **chunk}

        def finish(chunk: dict[str, tf.Tensor]) -> tf.Tensor:
            inputs = [chunk[name] for name in FINISH]
            crops = self._maker.decode(chunk)
            return tf.numpy_function(self._maker.finish, [*inputs, *crops], tf.uint8, False)

        def decode(chunk: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            all_ready = tf.equal(tf.shape(chunk["ready"])[0], size)
            image = tf.cond(all_ready, lambda: chunk["ready"], lambda: finish(chunk))
            chunk["image"] = tf.ensure_shape(image, (None, *shape))
            return {"number": chunk["number"], **self._made(chunk)}

        def with_end_mark(chunk: dict[str, tf.Tensor]) -> tf.data.Dataset:
            made = tf.data.Dataset.from_tensors(chunk).map(decode)
            specs = {name: made.element_spec[name] for name in self.keys}
            end = tf.data.Dataset.from_tensors({"number": _FAILED, **_no_rows(specs)})
            return made.ignore_errors().concatenate(end)

        dataset = tf.data.Dataset.range(start, stop)
        dataset = dataset.map(read, num_parallel_calls=workers, deterministic=True)
        # Up to 32 threads decode a chunk, so a few chunks at a time keep all workers busy.
        decoders = max(2, workers // 8)
        dataset = dataset.interleave(
            with_end_mark,
            cycle_length=decoders,
            block_length=2,
            num_parallel_calls=decoders,
            deterministic=True,
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = workers
        options.autotune.enabled = False
        return dataset.with_options(options)

    def _made(self, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The rows of a batch of those of a chunk, see `SeveralImages.examples`."""
        rows = {name: rows[name] for name in self.keys}
        if not self.several.others:
            return rows

        def made(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
            found = self.several.examples(dict(zip(self.keys, arrays, strict=True)))
            return tuple(found.values())

        types = [tensor.dtype for tensor in rows.values()]
        found = zip(rows, tf.numpy_function(made, list(rows.values()), types, False), strict=True)
        shapes = {name: tensor.shape[1:] for name, tensor in rows.items()}
        shapes["image"] = train_views(self.preprocess.data)
        return {name: tf.ensure_shape(new, (None, *shapes[name])) for name, new in found}

    def _read(self, number: np.int64, rows: Rows) -> tuple[Any, ...]:
        """A chunk's number and what `ChunkMaker.read` makes of it; if it fails, -1 and nothing."""
        try:
            return number, *self._maker.read(rows).values()
        except Exception:  # of any kind; `_row_by_row` tells which row it is, and what
            nothing = rows._replace(mask=np.zeros_like(rows.mask))
            return _FAILED, *self._maker.read(nothing).values()

    def _in_order(
        self, dataset: tf.data.Dataset, rows_of: Callable[[int], Rows], start: int, stop: int
    ) -> Iterator[Arrays]:
        """The chunks start <= number < stop; those that failed are made here."""
        made = dataset.as_numpy_iterator()
        for number in range(start, stop):
            chunk = next(made)
            if len(chunk["index"]):
                next(made)  # its end mark
            if chunk["number"] != number:
                chunk = self.several.examples(self._row_by_row(rows_of(number)))
            yield chunk

    def _row_by_row(self, rows: Rows) -> Arrays:
        parts, failures = [], {}
        for place in range(len(rows.index)):
            row = rows.part(place, 1)
            try:
                parts.append(self._maker.one(row))
            except ImpossibleValue as error:
                raise DataError(f"{self._describe(row)}: {error}") from error
            except Exception as error:  # of Pillow, TensorFlow, protobuf, array_record, ...
                failures[int(row.index[0])] = f"{self._describe(row)}: {_reason(error)}"
                parts.append(self._skipped(row))
        if failures:
            self._note(failures)
        else:
            logging.warning("a chunk of the input failed and came when it was asked for again")
        return self._joined(parts, len(rows.index))

    def _skipped(self, row: Rows) -> Arrays:
        return {
            "image": np.broadcast_to(self.fill, (1, *self.preprocess.shape)),
            **{name: field.filled(1) for name, field in self._maker.fields.items()},
            "mask": np.zeros(1, bool),
            "index": row.index,
            "epoch": row.epoch,
        }

    def _note(self, failures: dict[int, str]) -> None:
        data = self.preprocess.data
        if data.bad_images == "fail":
            named = "; ".join(list(failures.values())[:_NAMED])
            more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
            raise DataError(
                f"unreadable image: {named}{more}. Remove or mend it, or set data.bad_images=skip"
            )
        for index in failures.keys() - self.unreadable.keys():
            logging.warning("unreadable image left out: %s", failures[index])
            self.unreadable[index] = failures[index]
        if len(self.unreadable) > data.max_bad_fraction * len(self.source):
            raise DataError(
                f"{len(self.unreadable)} of {len(self.source)} images could not be read, more than "
                f"data.max_bad_fraction = {data.max_bad_fraction:g} of them; the last is "
                f"{list(failures.values())[-1]}"
            )

    def _joined(self, parts: list[Arrays], rows: int) -> Arrays:
        return {key: np.concatenate([part[key] for part in parts])[:rows] for key in self.keys}

    def _describe(self, row: Rows) -> str:
        index = int(row.index[0])
        try:
            return self.source.describe(index)
        except Exception:  # the name may stand in the damaged record itself
            return f"example {index}"


def _no_rows(specs: dict[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """Arrays like those of a batch, with no rows."""
    return {key: tf.zeros((0, *spec.shape[1:]), spec.dtype) for key, spec in specs.items()}


def _reason(error: Exception) -> str:
    """What an exception says, without TensorFlow's names of nodes and its stack."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(getattr(error, "message", error)))
    lines = (line.strip() for line in text.split("\n"))
    told = (line for line in lines if line and not line.startswith(_STACK))
    return next(told, type(error).__name__)

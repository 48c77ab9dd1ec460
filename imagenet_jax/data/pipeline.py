"""From a source and an order to batches: a tf.data pipeline that can start at any step.

Every element is a function of its place in the stream. So an image that cannot be decoded
needs no care while all goes well: the pipeline stops at its batch, the image is found by
name, and the pipeline starts again at that batch without it.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np
from absl import logging

from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.order import EvalOrder, Rows
from imagenet_jax.data.source import EncodedSource
from imagenet_jax.errors import DataError

Order = Callable[[int], Rows]
# (encoded image, index, epoch) to uint8 [S, S, 3], in TensorFlow.
Decode = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def encoded_batches(
    source: EncodedSource,
    order: Order,
    decode: Decode,
    *,
    start: int,
    stop: int,
    image_size: int,
    bad_images: str,
    prefetch: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of the steps start <= step < stop.

    Args:
      source: where encoded images come from.
      order: which examples a step holds.
      decode: the preprocessing.
      start, stop: range of steps.
      image_size: height and width in pixels after `decode`.
      bad_images: "fail", or "skip": an unreadable image is named in a warning and its row
        is masked wherever it comes up.
      prefetch: batches made ahead.

    Raises:
      DataError: for an unreadable image, by name, if bad_images is "fail".
    """
    bad: set[tuple[int, int]] = set()  # (index, epoch): a crop may miss the damaged part
    step = start
    while step < stop:
        dataset = _dataset(source, order, decode, bad, step, stop, image_size, prefetch)
        try:
            for batch in dataset.as_numpy_iterator():
                yield batch
                step += 1
        except tf.errors.OpError as error:
            found = _find_bad(source, order(step), decode, bad)
            if not found:
                raise DataError(f"input pipeline failed at step {step}: {error}") from error
            if bad_images == "fail":
                message = "; ".join(found.values())
                raise DataError(
                    f"unreadable image: {message}. Remove or mend it, or set data.bad_images=skip"
                ) from error
            known = {index for index, _ in bad}
            for (index, _), message in found.items():
                if index not in known:
                    logging.warning("unreadable image left out: %s", message)
            bad |= found.keys()


def decode_all(
    source: EncodedSource, decode: Decode, *, image_size: int, bad_images: str
) -> "MemorySource":
    """Decodes every example of a source once and keeps the pixels in memory."""
    size = 256
    order = EvalOrder(len(source), size, np.arange(size))
    images = np.empty((len(source), image_size, image_size, 3), np.uint8)
    labels, readable = np.empty(len(source), np.int32), np.empty(len(source), bool)
    batches = encoded_batches(
        source,
        order,
        decode,
        start=0,
        stop=order.num_steps,
        image_size=image_size,
        bad_images=bad_images,
        prefetch=2,
    )
    for step, batch in enumerate(batches):
        rows = slice(step * size, min((step + 1) * size, len(source)))
        count = rows.stop - rows.start
        images[rows], labels[rows] = batch["image"][:count], batch["label"][:count]
        readable[rows] = batch["mask"][:count]
    return MemorySource(source.class_names, images, labels, readable)


class MemorySource:
    """A split whose pixels are in memory; see `source.ArraySource`."""

    def __init__(
        self,
        class_names: tuple[str, ...],
        images: np.ndarray,
        labels: np.ndarray,
        readable: np.ndarray,
    ):
        self.class_names = class_names
        self._images, self._labels, self._readable = images, labels, readable

    def __len__(self) -> int:
        return len(self._labels)

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._images[index], self._labels[index], self._readable[index]


def _dataset(
    source: EncodedSource,
    order: Order,
    decode: Decode,
    bad: set[tuple[int, int]],
    start: int,
    stop: int,
    image_size: int,
    prefetch: int,
) -> tf.data.Dataset:
    """tf.data: step -> read the encoded rows -> decode one by one, in parallel -> batch."""

    def read(step: np.int64) -> tuple[np.ndarray, ...]:
        index, epoch, mask = order(int(step))
        if bad:
            pairs = zip(index.tolist(), epoch.tolist(), strict=True)
            mask = mask & np.array([pair not in bad for pair in pairs])
        encoded, label = np.full(len(index), b"", object), np.zeros(len(index), np.int32)
        if mask.any():
            encoded[mask], label[mask] = source.read(index[mask])
        return encoded, label, mask, index, epoch

    def read_rows(step: tf.Tensor) -> dict[str, tf.Tensor]:
        names = ("encoded", "label", "mask", "index", "epoch")
        types = (tf.string, tf.int32, tf.bool, tf.int32, tf.int32)
        arrays = tf.numpy_function(read, [step], types, stateful=False)
        for array in arrays:
            array.set_shape((None,))
        return dict(zip(names, arrays, strict=True))

    def decode_row(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        encoded = row.pop("encoded")
        shape = (image_size, image_size, 3)
        image = tf.cond(
            row["mask"],
            lambda: decode(encoded, row["index"], row["epoch"]),
            lambda: tf.zeros(shape, tf.uint8),
        )
        return {"image": tf.ensure_shape(image, shape), **row}

    batch_size = len(order(start).index)
    dataset = tf.data.Dataset.range(start, stop)
    dataset = dataset.map(read_rows, num_parallel_calls=2, deterministic=True)
    dataset = dataset.unbatch()
    dataset = dataset.map(decode_row, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return dataset.prefetch(prefetch)


def _find_bad(
    source: EncodedSource, rows: Rows, decode: Decode, known: set[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """The unreadable images of one batch that are not `known`: {(index, epoch): "NAME: reason"}."""
    found = {}
    for index, epoch in zip(rows.index[rows.mask], rows.epoch[rows.mask], strict=True):
        pair = (int(index), int(epoch))
        if pair in known:
            continue
        try:
            (encoded,), _ = source.read(np.array([index]))
            decode(tf.constant(encoded), tf.constant(index), tf.constant(epoch))
        except Exception as error:  # also protobuf's and array_record's own
            text = str(getattr(error, "message", error))
            reason = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", text).strip().split("\n")[0]
            found[pair] = f"{source.describe(index)}: {reason}"
    return found

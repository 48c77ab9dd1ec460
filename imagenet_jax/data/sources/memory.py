"""A split whose pixels are in memory."""

import numpy as np

from imagenet_jax.data.order import EvalOrder
from imagenet_jax.data.pipeline import Pipeline


class MemorySource:
    """Decoded images; see `source.ArraySource`."""

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


def decode_all(pipeline: Pipeline) -> MemorySource:
    """Decodes every example of a pipeline's source once and keeps the pixels in memory."""
    count, size, batch = len(pipeline.source), pipeline.preprocess.data.image_size, 256
    order = EvalOrder(count, batch, np.arange(batch))
    images = np.empty((count, size, size, 3), np.uint8)
    labels, readable = np.empty(count, np.int32), np.empty(count, bool)
    for step, made in enumerate(pipeline.batches(order, 0, order.num_steps)):
        rows = slice(step * batch, min((step + 1) * batch, count))
        here = slice(0, rows.stop - rows.start)
        images[rows], labels[rows] = made["image"][here], made["label"][here]
        readable[rows] = made["mask"][here]
    return MemorySource(pipeline.source.class_names, images, labels, readable)

"""A split whose pixels are in memory."""

from collections.abc import Mapping

import numpy as np

from imagenet_jax.data.order import EvalOrder
from imagenet_jax.data.pipeline import Pipeline
from imagenet_jax.data.sources.source import Field


class MemorySource:
    """Decoded images; see `source.ArraySource`."""

    def __init__(
        self,
        class_names: tuple[str, ...],
        fields: Mapping[str, Field],
        images: np.ndarray,
        values: Mapping[str, np.ndarray],
        readable: np.ndarray,
    ):
        self.class_names, self.fields = class_names, fields
        self._images, self._values, self._readable = images, values, readable

    def __len__(self) -> int:
        return len(self._images)

    def arrays(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        values = {name: array[index] for name, array in self._values.items()}
        return self._images[index], values, self._readable[index]


def decode_all(pipeline: Pipeline) -> MemorySource:
    """Decodes every example of a pipeline's source once and keeps the pixels in memory."""
    source, size, batch = pipeline.source, pipeline.preprocess.size, 256
    count = len(source)
    order = EvalOrder(count, batch, np.arange(batch))
    images, readable = np.empty((count, size, size, 3), np.uint8), np.empty(count, bool)
    values = {name: field.sized(size).filled(count) for name, field in source.fields.items()}
    for step, made in enumerate(pipeline.batches(order, 0, order.num_steps)):
        rows = slice(step * batch, min((step + 1) * batch, count))
        here = slice(0, rows.stop - rows.start)
        images[rows], readable[rows] = made["image"][here], made["mask"][here]
        for name, array in values.items():
            array[rows] = made[name][here]
    return MemorySource(source.class_names, source.fields, images, values, readable)

"""The CPU time of each stage of the host pipeline, one after the other on the same rows."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from imagenet_jax.data.chunk import FINISH, ChunkMaker
from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.order import Rows
from imagenet_jax.data.pipeline import Pipeline

STAGES = ("read", "decode", "crop+resize+policy", "batch")


def stage_seconds(pipeline: Pipeline, chunks: Sequence[Rows]) -> dict[str, float]:
    """CPU seconds an image for read, decode, crop+resize+policy and batch.

    Args:
      pipeline: whose source and preprocessing are measured.
      chunks: rows, as many in each; the first chunk is the warm-up.

    Raises:
      Exception: of any kind, for an image that cannot be read.
    """
    clock = _CpuClock()
    source = _Timed(pipeline.source, clock, method="read", stage="read")
    preprocess = _Timed(pipeline.preprocess, clock, method="finish", stage="crop+resize+policy")
    maker = ChunkMaker(source, preprocess)
    several = pipeline.several
    size = len(chunks[0].index) * (1 + several.others)
    specs = maker.specs
    signature = {name: tf.TensorSpec((size, *s.shape[1:]), s.dtype) for name, s in specs.items()}
    signature["ready"] = specs["ready"]
    decode = tf.function(maker.decode, input_signature=[signature], autograph=False)
    for number, rows in enumerate(chunks):
        if number == 1:
            clock.seconds.clear()
        with clock("decode"):
            chunk = maker.read(several.with_others(rows))
            image = chunk["ready"]
            if len(image) < size:
                tensors = {name: tf.constant(chunk[name], s.dtype) for name, s in specs.items()}
                crops = [crop.numpy() for crop in decode(tensors)]
                image = maker.finish(*(chunk[name] for name in FINISH), *crops)
        with clock("batch"):
            fields = {name: chunk[name] for name in pipeline.keys if name != "image"}
            np.concatenate([several.examples({"image": image, **fields})["image"]])
    images = len(chunks[0].index) * (len(chunks) - 1)
    return {name: clock.seconds[name] / images for name in STAGES}


def decode_seconds(encoded: Sequence[bytes]) -> float:
    """CPU seconds an image that OpenCV's libjpeg-turbo takes to decode these files whole."""
    buffers = [np.frombuffer(file, np.uint8) for file in encoded]
    cv2.imdecode(buffers[0], cv2.IMREAD_COLOR)
    start = time.process_time()
    for buffer in buffers:
        cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    return (time.process_time() - start) / len(buffers)


class _CpuClock:
    """CPU seconds of this process by stage; what an inner stage takes is not the outer's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = time.process_time()
        yield
        spent = time.process_time() - start
        self.seconds[stage] += spent - self._inner
        self._inner = outer + spent


class _Timed:
    """An object one of whose methods is a stage of its own."""

    def __init__(self, wrapped: Any, clock: _CpuClock, *, method: str, stage: str):
        self._wrapped = wrapped

        def timed(*args: Any) -> Any:
            with clock(stage):
                return getattr(wrapped, method)(*args)

        setattr(self, method, timed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

"""What a network costs: numbers that are counted, and latencies that are measured side by side."""

import gzip
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagenet_jax.deploy.program import program_of
from imagenet_jax.models.cost import count_macs, count_params
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.files import write_safetensors

BATCHES = (1, 32)  # of which the latency is measured
_ROUNDS, _SECONDS = 40, 30.0  # at most, all models together
# Of a number of images: what runs them once.
Call = Callable[[int], Callable[[], Any]]


def sizes(trained: TrainedModel, file: Path | None) -> dict[str, Any]:
    """Parameters, non-zero ones, 10^9 multiply-adds of an image, and bytes of the weights.

    Args:
      trained: the model.
      file: where its weights are written, as safetensors; None: nowhere, it has no size then.
    """
    size, params = trained.config.data.image_size, trained.variables["params"]
    counts = {
        "parameters": count_params(trained.variables),
        "nonzero": sum(int(np.count_nonzero(np.asarray(leaf))) for leaf in jax.tree.leaves(params)),
        "gmacs": count_macs(trained.model, size) / 1e9,
    }
    if file is None:
        return {**counts, "file": None, "bytes": None, "gzip_bytes": None}
    write_safetensors(file, trained.variables)
    return counts | file_sizes(file)


def file_sizes(file: Path) -> dict[str, Any]:
    """The file, its bytes, and those that gzip makes of it."""
    packed = len(gzip.compress(file.read_bytes(), 6))
    return {"file": str(file), "bytes": os.path.getsize(file), "gzip_bytes": packed}


def latencies(calls: Mapping[str, Call]) -> dict[str, dict[str, float]]:
    """Milliseconds from images to answers {name: {batch size: median}}, on this machine.

    They take turns, so that whatever else the machine does slows all of them.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in calls}
    for count in BATCHES:
        once = {name: call(count) for name, call in calls.items()}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        end = time.perf_counter() + _SECONDS
        for number in range(_ROUNDS + 1):
            for name, call in once.items():
                start = time.perf_counter()
                jax.block_until_ready(call())
                if number:  # the first one is to warm up
                    seconds[name].append(time.perf_counter() - start)
            if number > 2 and time.perf_counter() > end:
                break
        for name, times in seconds.items():
            found[name][str(count)] = 1000 * statistics.median(times)
    return found


def program_call(trained: TrainedModel, count: int) -> Callable[[], Any]:
    """What runs a model on so many images that are on the device."""
    images = random_images(trained, count)
    variables, images = jax.device_put((trained.variables, images))
    run = jax.jit(program_of(trained)).lower(variables, images).compile()
    return lambda: run(variables, images)


def random_images(trained: TrainedModel, count: int) -> np.ndarray:
    """As a model sees them, uint8 [count, S, S, 3]."""
    size = trained.config.data.image_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

"""`launch.py benchmark`: how fast this machine feeds the devices, and where the time goes."""

import itertools
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from imagenet_jax.data import Split
from imagenet_jax.data.names import train_size
from imagenet_jax.data.order import Rows, TrainOrder
from imagenet_jax.devices.parallel import local_rows, put_batch
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.printable import printable
from imagenet_jax.reports.writers import replace_figure
from imagenet_jax.tasks.table import task_split
from imagenet_jax.training.program_checks import check_config

REPEATS = 5
STAGE_IMAGES = 1024


def benchmark_input(config: ml_collections.ConfigDict, seconds: float) -> dict[str, Any]:
    """Measures the training input of a config, from the files to the devices.

    CPU time is that of all threads of this process. Images that cannot be read are skipped,
    if data.bad_images says so.

    Args:
      config: see `schema.SCHEMA`.
      seconds: of measurement, over five repeats whose medians are reported.

    Returns:
      dataset, split, num_examples, batch_size (of this process), image_size, cores;
      images_per_second and images_per_core_second of the whole pipeline, the latter of each
        repeat in `repeats`;
      stages: {name: {"seconds_per_image", "share"}} in CPU seconds: read, decode,
        crop+resize+policy, batch and transfer are measured one by one; the rest of the
        pipeline's time is "tf.data and Python";
      decode_limit_images_per_core_second: whole images of the same files, by libjpeg-turbo
        (OpenCV) alone; None for data that are not encoded.
    """
    mesh = make_mesh(config.sharding)
    check_config(config, mesh)
    split = task_split(config, train=True)
    rows = local_rows(mesh, config.batch_size)
    speeds = [_speed(split, rows, mesh, 1000 * n, seconds / REPEATS) for n in range(REPEATS)]
    per_core = [speed["per_core_second"] for speed in speeds]
    stages, limit = _stages(split), None
    stages["transfer"] = _transfer_seconds(split, rows, mesh)
    if not hasattr(split.source, "arrays"):
        limit = _decode_limit(split)
    stages["tf.data and Python"] = max(1 / statistics.median(per_core) - sum(stages.values()), 0.0)
    total = sum(stages.values())
    return {
        "dataset": config.data.name,
        "split": split.name,
        "num_examples": split.num_examples,
        "batch_size": len(rows),
        "image_size": train_size(config.data),
        "cores": len(os.sched_getaffinity(0)),
        "images_per_second": statistics.median(speed["per_second"] for speed in speeds),
        "images_per_core_second": statistics.median(per_core),
        "repeats": per_core,
        "stages": {
            name: {"seconds_per_image": value, "share": value / total}
            for name, value in stages.items()
        },
        "decode_limit_images_per_core_second": limit,
    }


def _speed(
    split: Split, rows: np.ndarray, mesh: Mesh, start: int, seconds: float
) -> dict[str, float]:
    """Images per second of wall clock and of CPU time, once the pipeline runs steadily."""
    batches = split.train_batches(rows, start, start + 10**6)
    warm_up = time.perf_counter() + seconds / 4
    for count in itertools.count():
        jax.block_until_ready(put_batch(next(batches), mesh))
        if count > split.config.data.prefetch and time.perf_counter() > warm_up:
            break
    wall, cpu, images = time.perf_counter(), time.process_time(), 0
    while images == 0 or time.perf_counter() - wall < seconds:
        jax.block_until_ready(put_batch(next(batches), mesh))
        images += len(rows)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    batches.close()
    return {"per_second": images / wall, "per_core_second": images / cpu}


def _stages(split: Split) -> dict[str, float]:
    """CPU seconds an image of each stage on the host, over STAGE_IMAGES images."""
    if hasattr(split.source, "arrays"):
        orders = _chunks(split, 256)
        start = time.process_time()
        for rows in orders:
            split.source.arrays(rows.index)
        return {"read": (time.process_time() - start) / (256 * len(orders))}
    from imagenet_jax.data.pipeline import CHUNK
    from imagenet_jax.data.stages import stage_seconds

    return stage_seconds(split.pipeline(), _chunks(split, CHUNK))


def _decode_limit(split: Split) -> float:
    """Images per core-second that are only decoded, whole."""
    from imagenet_jax.data.stages import decode_seconds

    files = [file for rows in _chunks(split, 64) for file in split.source.read(rows.index)[0]]
    return 1 / decode_seconds(files)


def _chunks(split: Split, size: int) -> list[Rows]:
    """STAGE_IMAGES rows or a few more, in the order of training."""
    order = TrainOrder(split.config.seed, split.num_examples, size, np.arange(size))
    return [order(step) for step in range(-(-STAGE_IMAGES // size))]


def _transfer_seconds(split: Split, rows: np.ndarray, mesh: Mesh) -> float:
    """CPU seconds an image of moving batches to the devices."""
    batch = next(split.train_batches(rows, 0, 1))
    jax.block_until_ready(put_batch(batch, mesh))
    start = time.process_time()
    for _ in range(10):
        jax.block_until_ready(put_batch(batch, mesh))
    return (time.process_time() - start) / (10 * len(rows))


def input_table(result: dict[str, Any]) -> str:
    """The result of `benchmark_input` for people."""
    limit = result["decode_limit_images_per_core_second"]
    lines = [
        f"input of {result['dataset']}, split {result['split']}: {result['num_examples']:,} "
        f"examples, {result['image_size']} pixels, {result['batch_size']} a batch",
        f"  {result['images_per_second']:>9,.0f} images/s on {result['cores']} cores",
        f"  {result['images_per_core_second']:>9,.0f} images per core-second of CPU time",
    ]
    if limit:
        share = result["images_per_core_second"] / limit
        lines.append(f"  {limit:>9,.0f} would be decoding alone (libjpeg-turbo): {share:.2f} of it")
    lines.append(f"  {'stage':20} {'us/image':>9} {'share':>7}")
    for name, stage in result["stages"].items():
        lines.append(
            f"  {name:20} {1e6 * stage['seconds_per_image']:9.1f} {100 * stage['share']:6.1f}%"
        )
    return "\n".join(lines)


def plot_input(result: dict[str, Any], path: Path) -> None:
    """A bar of the stages with the decoding limit below it, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
    left = 0.0
    for number, (name, stage) in enumerate(result["stages"].items()):
        width = 1e6 * stage["seconds_per_image"]
        axes.barh("pipeline", width, left=left, color=f"C{number}", label=f"{name}, {width:,.0f}")
        left += width
    limit = result["decode_limit_images_per_core_second"]
    if limit:
        axes.barh("decoding alone", 1e6 / limit, color="0.6")
    axes.set_xlabel("CPU time per image (microseconds)")
    axes.set_title(
        f"{printable(result['dataset'])[-60:]}, {result['image_size']} pixels: "
        f"{result['images_per_core_second']:,.0f} images per core-second",
        parse_math=False,
    )
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    replace_figure(path, figure)
    plt.close(figure)

"""What a recipe is predicted to cost on hardware that one can rent, from compiled steps.

The steps were compiled by benchmarks/recipe_costs.py; recipe_costs.csv keeps what it found. A run
is its stages: images of each, times the seconds that one takes on a chip. Evaluation, checkpoints
and waiting for input are not in it, and the optimizer is SGD, of which others differ by a few
passes over the parameters; docs/step-study.md says how far such predictions are off.
"""

import csv
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_collections

from imagenet_jax.config.config import base_config
from imagenet_jax.config.durations import exact_steps_of
from imagenet_jax.config.stages import config_stages
from imagenet_jax.data.names import known_size, train_size
from imagenet_jax.study.chips import CHIPS

FILE = Path(__file__).parent / "recipe_costs.csv"
# By name: topology, devices, and images on a device at a time, at most.
PLACES = {
    "v5e-8": ("v5e:2x4", 8, 128),
    "v4-32": ("v4:2x2x4", 16, 128),
    "8 x H100": ("h100:8", 8, 256),
}
# A GPU's prediction is a bound; real steps reached this share of its speed (docs/step-study.md).
_REACHED = {"tpu": 1.0, "gpu": 0.73}
# Fields of the network that change hardly anything of what is computed.
_FREE = {
    *("model.name", "model.bn_group_size", "model.bn_momentum", "model.bn_epsilon"),
    *("model.zero_init_residual", "model.conv_init", "model.bn_init", "model.head_std"),
    *("model.head_bias", "model.kernel_init", "model.dropout", "model.drop_path"),
    *("model.uniform_drop_path", "model.layer_scale"),
}
_GRID = 16  # pixels: of sizes between, the nearest is compiled, and its time goes with the area


class Cost(NamedTuple):
    """A whole run on some hardware: its hours, and the images that its fastest stage takes."""

    hours: float
    images_per_second: float


class Row(NamedTuple):
    """A compiled step: `batch` images on each device of `place` in `seconds`."""

    step: str
    place: str
    batch: int
    seconds: float
    date: str
    compiler: str


def predicted_cost(config: ml_collections.ConfigDict, place: str) -> Cost | None:
    """What is predicted for a run; None if a step of it was not compiled there, as of any task but
    classification, or if it has a teacher.

    Args:
      config: of the run.
      place: of `PLACES`.
    """
    if config.distill.weights or config.task != "classification":
        return None
    topology, devices, _ = PLACES[place]
    platform = CHIPS[topology.partition(":")[0]].platform
    seconds, fastest = 0.0, 0.0
    for step, batch, images, area in steps(config, place):
        row = compiled_steps().get((step, place, batch))
        if row is None:
            return None
        passes = 1 + 1 / config.optim.sam_every if config.optim.sam else 1
        passes *= config.data.views
        passes /= 2 if config.augment.mix_per == "half" else 1  # an image of two that are read
        speed = row.batch * devices / row.seconds / area / passes * _REACHED[platform]
        seconds += images / speed
        fastest = max(fastest, speed)
    return Cost(seconds / 3600, fastest)


def steps(config: ml_collections.ConfigDict, place: str) -> Iterator[tuple[str, int, float, float]]:
    """The steps of a run, one for each stage; of a classifier, as the overrides name no task.

    Yields:
      What it is of, as overrides "FIELD=VALUE FIELD=VALUE" of the default config; the images that
      a device has at a time; how many images the run trains on in that stage; and by how much
      their area is larger than those of the step.
    """
    if config.task != "classification":
        return
    _, devices, most = PLACES[place]
    batch = min(most, 1 << max(0, (config.batch_size // devices).bit_length() - 1))
    stages, count = config_stages(config), known_size(config.data)[1]
    whole = _images(config.duration, config, count, 0)
    starts = [_images(stage.start, config, count, whole) for stage in stages]
    for stage, start, end in zip(stages, starts, [*starts[1:], whole], strict=True):
        size = train_size(stage.config.data)
        compiled = max(_GRID, round(size / _GRID) * _GRID)
        yield _step(stage.config, compiled), batch, end - start, (size / compiled) ** 2


def _images(
    duration: str, config: ml_collections.ConfigDict, num_examples: int, whole: float
) -> float:
    size = config.batch_size
    return size * exact_steps_of(
        duration, batch_size=size, num_examples=num_examples, total_steps=whole / size
    )


def _step(config: ml_collections.ConfigDict, size: int) -> str:
    said = [f"model.name={config.model.name}", f"data.train_size={size}"]
    for name, default in base_config().model.items():
        value = config.model[name]
        if value != default and f"model.{name}" not in _FREE:
            said.append(f"model.{name}={value}")
    return " ".join(said)


@functools.cache
def compiled_steps() -> dict[tuple[str, str, int], Row]:
    """The rows of the file by step, place, and images that a device was to have at a time."""
    with FILE.open(newline="") as file:
        return {
            (row["step"], row["place"], int(row["asked_batch"])): Row(
                row["step"],
                row["place"],
                int(row["batch"]),
                float(row["seconds"]),
                row["date"],
                row["compiler"],
            )
            for row in csv.DictReader(file)
        }

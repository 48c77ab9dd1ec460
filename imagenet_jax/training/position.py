"""Where a run stands in its data, by the examples seen: steps may change their size on the way."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.config.durations import steps_of


@dataclasses.dataclass(frozen=True)
class Course:
    """Which examples the steps of a run see, with the batch size that it has now.

    Attributes:
      batch_size: examples of a step.
      repeats: how often each comes, one after the other.
      offset: examples seen before, beyond `batch_size` for each step; not 0 only if the batch
        size was another one before.
      stream_offset: the same for places in the order of the data, which is another where the
        number of repeats was.
      epoch_offset: of the epochs that an example's augmentation is a function of, so that none
        comes again where there were more repeats before, see `order.TrainOrder`.
      changes: steps after which the batch size was another one, each with the examples seen.
    """

    batch_size: int
    repeats: int = 1
    offset: int = 0
    stream_offset: int = 0
    epoch_offset: int = 0
    changes: tuple[tuple[int, int], ...] = ()

    @property
    def order_offsets(self) -> tuple[int, int]:
        """Those of `order.TrainOrder`."""
        return self.stream_offset, self.epoch_offset

    @property
    def shift(self) -> float:
        """`offset` in steps of today's size; a whole number stays one."""
        whole, rest = divmod(self.offset, self.batch_size)
        return self.offset / self.batch_size if rest else whole

    def examples(self, step: int) -> int:
        """Examples seen after so many steps."""
        return step * self.batch_size + self.offset

    def steps(self, duration: str, num_examples: int, total_steps: int | None = None) -> int:
        """The step at whose end the run has lasted so long, see `durations.steps_of`.

        "steps" counts updates, "percent" the share of the examples of the whole run.
        """
        return steps_of(
            duration,
            batch_size=self.batch_size,
            num_examples=num_examples,
            total_steps=total_steps,
            shift=self.shift,
        )

    def over_at(self, duration: str, num_examples: int, total_steps: int) -> float:
        """When something at the beginning is over, in steps of today's size from the first example
        on: so many updates have other sizes where they were done before the batch size changed."""
        end = self.steps(duration, num_examples, total_steps)
        if "step" in duration and self.changes and end < self.changes[-1][0]:
            steps, examples = zip((0, 0), *self.changes, strict=True)
            return float(np.interp(end, steps, examples)) / self.batch_size
        return max(end + self.shift, 0)

    def interval(self, duration: str, num_examples: int, total_steps: int) -> int:
        """Something periodic in steps of today's size."""
        total = total_steps + self.shift
        return steps_of(
            duration, batch_size=self.batch_size, num_examples=num_examples, total_steps=total
        )

    def is_due(self, step: int, every: int) -> bool:
        """Whether this step ends one of the periods of `every` steps; 0: there are none."""
        unit = every * self.batch_size
        return unit > 0 and self.examples(step) // unit > self.examples(step - 1) // unit

    def position(self, step: int, num_examples: int) -> dict[str, int]:
        """What a checkpoint's record says of it."""
        examples = self.examples(step)
        epoch, example = divmod(examples, num_examples)
        distinct, copy = divmod(step * self.batch_size + self.stream_offset, self.repeats)
        return {
            "step": step,
            "examples": examples,
            "distinct": distinct,
            "copy": copy,
            "epoch": epoch,
            "example": example,
            "epoch_offset": self.epoch_offset,
            "changes": list(map(list, self.changes)),
        }


def course_of(config: ml_collections.ConfigDict, record: Mapping[str, Any] | None = None) -> Course:
    """The course of a run by its config from a checkpoint's record on, or from the beginning."""
    batch_size, repeats = config.batch_size, config.data.repeats
    if record is None:
        return Course(batch_size, repeats)
    position, before = record["position"], record["config"]
    step = position["step"]
    # Records of earlier versions know the steps only, all of one size.
    examples = position.get("examples", step * before["batch_size"])
    changes = tuple(map(tuple, position.get("changes", ())))
    if batch_size != before["batch_size"]:
        changes += ((step, examples),)
    copies = before["data"].get("repeats", 1)
    distinct = position.get("distinct", step * (before["batch_size"] // copies))
    stream = distinct * copies + position.get("copy", 0)
    if copies != repeats:
        distinct = -(-stream // copies)  # an example with some of its copies seen is done with
        stream = distinct * repeats
    # Epoch e had the numbers from e * copies on, one for each copy. Those of the next one follow.
    epoch_offset = position.get("epoch_offset", 0)
    if copies > repeats:
        next_epoch = distinct // record["data"]["num_examples"] + 1
        epoch_offset += next_epoch * (copies - repeats)
    return Course(
        batch_size,
        repeats,
        offset=examples - step * batch_size,
        stream_offset=stream - step * batch_size,
        epoch_offset=epoch_offset,
        changes=changes,
    )

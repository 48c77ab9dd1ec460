"""An order in which a fixed share of each batch has labels."""

import dataclasses
from collections.abc import Callable

import numpy as np

from imagenet_jax.data.order import Rows, TrainOrder
from imagenet_jax.data.shuffle import bijection, shuffled


def labelled_rows(batch_size: int, count: int) -> np.ndarray:
    """Which rows of a batch have labels, int64 [count], sorted.

    One of each `batch_size` / `count` neighbours, in another place among these each time, so that
    devices, groups of BatchNorm and micro-batches all get about their share.
    """
    starts = np.arange(count + 1, dtype=np.int64) * batch_size // count
    width, number = np.diff(starts), np.arange(count)
    return starts[:-1] + (number + number // width) % width  # not always at the same remainder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledOrder(TrainOrder):
    """Two streams, of images with labels and of images without, in rows of their own.

    Each goes through its images, every one once, and then through all of them again in another
    order; `epoch` counts these passes. What both streams have given before a step follows from
    the examples that all steps before it had, of which `labelled_share` had labels. `repeats` is 1.

    Attributes:
      labelled, unlabelled: the examples, int64 [n], neither empty.
      labelled_share: of the rows of a batch, a whole number of them.
    """

    labelled: np.ndarray
    unlabelled: np.ndarray
    labelled_share: float

    def __call__(self, step: int) -> Rows:
        count = round(self.labelled_share * self.batch_size)
        is_labelled = np.zeros(self.batch_size, bool)
        is_labelled[labelled_rows(self.batch_size, count)] = True
        seen = self.offset + step * self.batch_size
        done = seen * count // self.batch_size
        before = np.cumsum(is_labelled) - is_labelled  # rows with labels above each row
        place = np.arange(self.batch_size) - before + seen - done
        place = np.where(is_labelled, before + done, place)[self.rows]
        is_labelled = is_labelled[self.rows]
        index, epoch = np.empty_like(place), np.empty_like(place)
        for rows, examples, order in (
            (is_labelled, self.labelled, bijection),
            (~is_labelled, self.unlabelled, shuffled),
        ):
            index[rows], epoch[rows] = self._passed(place[rows], examples, order)
        epoch += self.epoch_offset
        return Rows(index.astype(np.int32), epoch.astype(np.int32), np.ones(len(index), bool))

    def _passed(
        self, place: np.ndarray, examples: np.ndarray, order: Callable[..., np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The examples at places of their endless stream, and in which pass that is, int64 [n]."""
        epoch, place = np.divmod(place, len(examples))
        index = np.empty_like(place)
        for number in np.unique(epoch):
            rows = epoch == number
            index[rows] = examples[order(self.seed, int(number), len(examples), place[rows])]
        return index, epoch

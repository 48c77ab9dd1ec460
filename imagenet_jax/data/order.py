"""Which example stands where: the order of the data as a pure function of (seed, position)."""

import dataclasses
from typing import NamedTuple

import numpy as np

from imagenet_jax.data.shuffle import shuffled

# By which the epochs of what is read for a row beside it are later, so that its crops are others.
LATER = 2**24


class Rows(NamedTuple):
    """Rows of one global batch: which examples they hold."""

    index: np.ndarray  # int32 [b], the example's number in its split; -1 where mask is False
    epoch: np.ndarray  # int32 [b], how often the split was passed through before
    mask: np.ndarray  # bool [b], False: padding

    def part(self, start: int, count: int) -> "Rows":
        """`count` rows from `start` on, filled up with padding."""
        rows = slice(start, start + count)
        lack = (0, count - len(self.index[rows]))
        return Rows(
            np.pad(self.index[rows], lack, constant_values=-1),
            np.pad(self.epoch[rows], lack),
            np.pad(self.mask[rows], lack),
        )


def even_batch(num_examples: int, most: int, multiple: int = 1) -> int:
    """The batch size for as few batches as `most` needs, and as little padding in the last one.

    One size for all batches, so that one compiled program serves them.

    Args:
      num_examples: to be cut into batches.
      most: the largest size; it is rounded up to a multiple as well.
      multiple: of which the size is one.
    """

    def rounded(size: int) -> int:
        return -(-size // multiple) * multiple

    batches = -(-num_examples // rounded(most))
    return rounded(-(-max(num_examples, 1) // max(batches, 1)))


@dataclasses.dataclass(frozen=True)
class TrainOrder:
    """An endless stream of epochs, each in its own order, cut into global batches.

    Batches run across the ends of epochs, so that every example is seen once per epoch
    whatever the batch size. `rows` are those of the global batch that this process loads.

    With `repeats` = K each example comes K times in a row of the stream (Hoffer et al. 2020,
    repeated augmentation; DeiT), and so in one batch, or two where K does not divide it. Within a
    batch the copies are in K blocks of rows, so that neighbours differ. Their `epoch` differs, and
    thereby their augmentation; a pass through the split then takes K epochs' steps.

    A run whose batch size was another one before has an `offset`: how far in the stream its steps
    came beyond `batch_size` each, so that it goes on where it was. One that had more repeats
    before has an `epoch_offset`, which is added to `epoch`: no augmentation comes again.
    """

    seed: int
    num_examples: int
    batch_size: int
    rows: np.ndarray
    repeats: int = 1
    offset: int = 0
    epoch_offset: int = 0

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the rows: where in the stream of distinct examples they stand, and which copy each
        is, int64 [b]."""
        stream = self.offset + step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        stream = stream[np.argsort(stream % self.repeats, kind="stable")][self.rows]
        return np.divmod(stream, self.repeats)

    def __call__(self, step: int) -> Rows:
        place, copy = self.places(step)
        epoch, place = np.divmod(place, self.num_examples)
        index = np.empty_like(place)
        for number in np.unique(epoch):
            of_epoch = epoch == number
            index[of_epoch] = shuffled(self.seed, int(number), self.num_examples, place[of_epoch])
        epoch = epoch * self.repeats + copy + self.epoch_offset
        return Rows(index.astype(np.int32), epoch.astype(np.int32), np.ones(len(index), bool))


@dataclasses.dataclass(frozen=True)
class EvalOrder:
    """Every example once, in order; the last batch is filled up with padding."""

    num_examples: int
    batch_size: int
    rows: np.ndarray

    @property
    def num_steps(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __call__(self, step: int) -> Rows:
        position = step * self.batch_size + np.asarray(self.rows, np.int64)
        mask = position < self.num_examples
        index = np.where(mask, position, -1)
        return Rows(index.astype(np.int32), np.zeros(len(index), np.int32), mask)


@dataclasses.dataclass(frozen=True)
class ChosenOrder:
    """Some examples, in a single batch."""

    index: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """All of the batch."""
        return np.arange(len(self.index))

    def __call__(self, step: int) -> Rows:
        index = np.asarray(self.index, np.int32)
        return Rows(index, np.zeros(len(index), np.int32), np.ones(len(index), bool))


Order = TrainOrder | EvalOrder | ChosenOrder

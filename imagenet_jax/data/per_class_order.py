"""An order in which a batch has several images of each of its classes: P classes, K images each."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from imagenet_jax.data.order import Rows, TrainOrder
from imagenet_jax.data.shuffle import bijection


@dataclasses.dataclass(frozen=True)
class PerClassOrder(TrainOrder):
    """Batches of P = batch_size / per_class classes, no class twice, `per_class` images each.

    The batches are made of rounds. In a round the classes come in an order of its own, and as many
    as make whole batches; those behind them wait for another round. A class gives other images in
    each round, `per_class` different ones, until it has too few that are new, and then begins
    again in another order; `epoch` counts these passes. A class with fewer images than that gives
    some several times, with another `epoch` each. Rows of one class are P rows apart.

    Attributes:
      by_class: the examples of each class, int arrays that are not empty, at least P.
      per_class: K, by which batch_size divides; `repeats` is 1.
    """

    by_class: Sequence[np.ndarray] = ()
    per_class: int = 1

    def __call__(self, step: int) -> Rows:
        count, at_once = len(self.by_class), self.batch_size // self.per_class
        turn, block = divmod(step + self.offset // self.batch_size, count // at_once)
        copy, place = np.divmod(np.asarray(self.rows, np.int64), at_once)
        key = turn * (count + 1) + count  # of no pass through a class
        group = bijection(self.seed, key, count, block * at_once + place)
        index, epoch = np.empty_like(place), np.empty_like(place)
        for number in np.unique(group):
            rows, examples = np.flatnonzero(group == number), self.by_class[number]
            passes, places = self._of_class(turn, copy[rows], len(examples))
            for done in np.unique(passes):
                of_pass = passes == done
                key = int(done) * (count + 1) + int(number)
                found = bijection(self.seed, key, len(examples), places[of_pass])
                index[rows[of_pass]], epoch[rows[of_pass]] = examples[found], done
        epoch = epoch + self.epoch_offset
        return Rows(index.astype(np.int32), epoch.astype(np.int32), np.ones(len(index), bool))

    def _of_class(self, turn: int, copy: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the images that a class of so many gives in a round: passes through it, and places."""
        if count < self.per_class:
            more, places = np.divmod(copy, count)
            return turn * -(-self.per_class // count) + more, places
        done, block = divmod(turn, count // self.per_class)
        return np.full_like(copy, done), block * self.per_class + copy

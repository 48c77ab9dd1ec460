"""An order in which every class comes equally often, where some have few images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from imagenet_jax.data.order import Rows, TrainOrder
from imagenet_jax.data.shuffle import bijection


@dataclasses.dataclass(frozen=True)
class BalancedOrder(TrainOrder):
    """A stream in which every class comes equally often.

    The stream is made of rounds, in each of which every class that has examples comes once, in an
    order of its own. A class goes through its examples, and when they are over through all of them
    again in another order; `epoch` counts these passes.

    Attributes:
      by_class: the examples of each class, int arrays that are not empty.
    """

    by_class: Sequence[np.ndarray] = ()

    def __call__(self, step: int) -> Rows:
        place, copy = self.places(step)
        count = len(self.by_class)
        turn, place = np.divmod(place, count)
        group = np.empty_like(place)
        for number in np.unique(turn):
            of_round = turn == number
            key = int(number) * (count + 1) + count  # of no pass through a class
            group[of_round] = bijection(self.seed, key, count, place[of_round])
        index, epoch = np.empty_like(place), np.empty_like(place)
        for number in np.unique(group):
            rows, examples = np.flatnonzero(group == number), self.by_class[number]
            passes, places = np.divmod(turn[rows], len(examples))
            for done in np.unique(passes):
                of_pass = rows[passes == done]
                key = int(done) * (count + 1) + int(number)
                found = bijection(self.seed, key, len(examples), places[passes == done])
                index[of_pass], epoch[of_pass] = examples[found], done
        epoch = epoch * self.repeats + copy + self.epoch_offset
        return Rows(index.astype(np.int32), epoch.astype(np.int32), np.ones(len(index), bool))

"""What the source of a published recipe says, written down apart from the config."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

N = 1_281_167  # ImageNet's training images

# The learning rate at a step, given the steps of an epoch.
Course = Callable[[int, float], float]


class Source(NamedTuple):
    """One recipe.

    Attributes:
      rate: the formula of its learning rate.
      decayed: numbers of its parameters and of those that decay.
      undecayed: which do not, an expression that is found in their paths; "": all decay.
      fields: constants of augmentation, loss and optimizer by the name of their field.
      num_examples: of an epoch.
      slow: its model takes long to build, which the test of decay does.
      tolerance: relative, of the rate.
    """

    rate: Course
    decayed: tuple[int, int]
    undecayed: str
    fields: Mapping[str, Any]
    num_examples: int = N
    slow: bool = False
    tolerance: float = 2e-3


def by_epoch(rate: Callable[[int], float]) -> Course:
    """Changes from one epoch to the next."""
    return lambda step, length: rate(math.floor((step + 0.49) / length))


def cosine(share: float) -> float:
    """From 1 to 0."""
    return (1 + math.cos(math.pi * share)) / 2

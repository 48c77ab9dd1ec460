"""Durations of a run in the unit that reads best: '90 epochs', '500 steps', '5 percent'."""

import math
import re
from typing import Any

_MOST_DIGITS = 20  # a longer number may be infinite
_DURATION = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?|\.\d+)\s*(steps?|epochs?|examples?|percent|%)")


def is_duration(text: Any) -> bool:
    """Whether `text` reads like '90 epochs', '500 steps', '5 percent' or '5%'."""
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    return found is not None and len(found[1]) <= _MOST_DIGITS


def steps_of(
    duration: str,
    *,
    batch_size: int,
    num_examples: int,
    total_steps: float | None = None,
    shift: float = 0,
) -> int:
    """A duration in whole steps, rounded to the nearest; '' is 0.

    Args:
      duration: e.g. '90 epochs'; 'percent' is of `total_steps`.
      batch_size: examples per step.
      num_examples: examples per epoch.
      total_steps: length of the run in steps.
      shift: steps of this size whose examples were seen beside those of the steps counted, by
        larger steps before them.
    """
    if not duration:
        return 0
    exact = exact_steps_of(
        duration,
        batch_size=batch_size,
        num_examples=num_examples,
        total_steps=total_steps,
        shift=shift,
    )
    return math.floor(exact + 0.5)


def exact_steps_of(
    duration: str,
    *,
    batch_size: int,
    num_examples: int,
    total_steps: float | None = None,
    shift: float = 0,
) -> float:
    """As `steps_of`, and not rounded; `duration` may not be ''."""
    number, unit = _DURATION.fullmatch(duration.strip()).groups()
    number = float(number)
    if unit.startswith("step"):
        return number
    if unit.startswith("epoch"):
        return number * num_examples / batch_size - shift
    if unit.startswith("example"):
        return number / batch_size - shift
    return number / 100 * (total_steps + shift) - shift

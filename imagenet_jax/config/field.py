"""What a field of a config is, and the kinds of fields that there are."""

import dataclasses
import math
import re
import sys
from collections.abc import Callable
from typing import Any

from imagenet_jax.config.durations import is_duration


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `default` gives the type, `meaning` the unit, `allowed` says what is possible."""

    default: Any
    meaning: str
    allowed: str = ""
    test: Callable[[Any], bool] = lambda value: True


def choice(default: str, choices: tuple[str, ...], meaning: str) -> Field:
    """One of several words."""
    shown = ", ".join(word or "''" for word in choices)
    return Field(default, meaning, f"one of {shown}", lambda v: v in choices)


def number(default: float, meaning: str, low: float, high: float = math.inf) -> Field:
    """A number in a range, of the type of its default; whole numbers are below 2^31."""
    allowed = f"at least {low:g}" if high == math.inf else f"between {low:g} and {_readable(high)}"
    if isinstance(default, int) and high == math.inf:
        allowed, high = f"{allowed}, below 2^31", 2**31 - 1
    return Field(default, meaning, allowed, lambda v: low <= v <= high and math.isfinite(v))


def _readable(number: float) -> str:
    """With commas between thousands: 2,147,483,647."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def share(default: float, meaning: str) -> Field:
    """How much of something is kept: from 0 to below 1."""
    return Field(default, meaning, "from 0 to below 1", lambda v: 0 <= v < 1)


def is_pattern(text: str) -> bool:
    """Whether it is a regular expression."""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def period(default: str, meaning: str, empty: bool = False) -> Field:
    """A duration above 0, after which something happens again."""
    one = duration(default, meaning, empty)
    is_some = lambda v: one.test(v) and (v == "" or re.search("[1-9]", v) is not None)  # noqa: E731
    return Field(default, meaning, one.allowed.replace("a number", "a number above 0"), is_some)


def duration(default: str, meaning: str, empty: bool = False) -> Field:
    """A duration, see `durations`."""
    allowed = "a number and one of steps, epochs, examples, percent, as in '5 epochs'"
    if empty:
        allowed += ", or '' for never"
    return Field(default, meaning, allowed, lambda v: (empty and v == "") or is_duration(v))


def interval(default: tuple[float, float], meaning: str, most: float = math.inf) -> Field:
    """Two numbers, a range."""
    allowed = "two numbers, 0 < low <= high" + ("" if most == math.inf else f" <= {most:g}")
    most = min(most, sys.float_info.max)
    return Field(default, meaning, allowed, lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= most)

"""Rules for single parameters, as 'bias$ rate=2 decay=0' or '^stem/ frozen' in optim.rules."""

import dataclasses
import math

from imagenet_jax.config.field import is_pattern

# Named sets of parameters, which stand where a pattern may: see `training/rules.py`.
SETS = (
    *("@all", "@kernels", "@norms", "@biases", "@embeddings", "@head", "@stem"),
    *("@not_norms", "@torchvision", "@timm"),
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is said of the parameters that a pattern finds; None: nothing.

    Attributes:
      pattern: a regular expression, or one of `SETS`.
      rate: factor of their learning rate.
      decay: factor of their weight decay, whatever optim.decayed says.
      frozen: whether they are not trained.
    """

    pattern: str
    rate: float | None = None
    decay: float | None = None
    frozen: bool = False


def parse_rule(text: str) -> Rule:
    """The rule of 'PATTERN rate=FACTOR decay=FACTOR' or 'PATTERN frozen'. Raises ValueError."""
    pattern, *words = text.split()
    said = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in said or name not in ("rate", "decay", "frozen"):
            raise ValueError(word)
        said[name] = True if word == "frozen" else float(value)
    factors = [value for name, value in said.items() if name != "frozen"]
    if not said or not all(0 <= value < math.inf for value in factors):
        raise ValueError(text)
    if not is_set_or_pattern(pattern) or ("frozen" in said and len(said) > 1):
        raise ValueError(text)
    return Rule(pattern, **said)


def is_rule(text: str) -> bool:
    """Whether `parse_rule` reads it."""
    try:
        parse_rule(text)
    except ValueError:
        return False
    return True


def is_set_or_pattern(text: str) -> bool:
    """Whether it is one of `SETS`, or a regular expression."""
    return text in SETS if text.startswith("@") else is_pattern(text)

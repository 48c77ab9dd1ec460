"""What a verb is, and the config that it has unless it says otherwise.

JAX takes a second to import, TensorFlow several. A mistake in a command line is said before:
only what `run` and `text` call imports them, from within these functions.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections

from imagenet_jax.config import load_config
from imagenet_jax.terminal import say


def config_file(args: argparse.Namespace) -> ml_collections.ConfigDict:
    """What --config names, else the quick start. Raises ConfigError."""
    return load_config(args.config or "quickstart")


def say_without_stages(config: ml_collections.ConfigDict) -> None:
    """Says so where a verb looks at the config as it is without its stages."""
    if config.stages:
        say(
            "config.stages is left out: this is about data.train_size "
            f"= {config.data.train_size or config.data.image_size} all through"
        )


def number(kind: type[int] | type[float], *, least: float, most: float = 10**12) -> Callable:
    """Reads a number in a range, for argparse."""

    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:  # nor is NaN
            raise argparse.ArgumentTypeError(f"{text[:40]} is not {least} to {most:g}")
        return value

    read.__name__ = kind.__name__  # argparse: "invalid int value"
    return read


def whole_numbers(least: int) -> Callable[[str], list[int]]:
    """Reads [1, 2] of "1,2", each once and at least `least`, for argparse."""

    def read(text: str) -> list[int]:
        try:
            found = [int(part) for part in text.split(",")]
        except ValueError:
            found = []
        if not found or not least <= min(found) <= max(found) < 2**31:
            message = f"{text!r} is no list of whole numbers from {least} on, as in 1,2"
            raise argparse.ArgumentTypeError(message)
        return list(dict.fromkeys(found))

    return read


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb of launch.py.

    Attributes:
      meaning: in a line.
      add_flags: adds its flags to the common ones.
      run: does it; returns the result, or None if a signal stopped it.
      text: the result for people.
      load: the config before the fields of the command line are set; raises ConfigError.
      check: (args, config, here) finds what is wrong with flags and fields without JAX; raises
        UserError. `here`: whether it runs on this machine, so that its files can be looked for.
      needs_jax: whether `run` uses JAX.
      title: what is said before it starts; "" for nothing.
      next: (args, result) gives the commands that one would type after it.
    """

    meaning: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, ml_collections.ConfigDict], dict[str, Any] | None]
    text: Callable[[dict[str, Any]], str]
    load: Callable[[argparse.Namespace], ml_collections.ConfigDict] = config_file
    check: Callable[[argparse.Namespace, ml_collections.ConfigDict, bool], None] = (
        lambda args, config, here: None
    )
    needs_jax: bool = True
    title: Callable[[argparse.Namespace, ml_collections.ConfigDict], str] = lambda args, config: ""
    next: Callable[[argparse.Namespace, dict[str, Any]], list[str]] = lambda args, result: []

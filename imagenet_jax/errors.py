"""Errors whose message is meant for the person at the terminal, and how a process ends.

Exit statuses, after BSD's sysexits.h where it has one: starting again mends all but the first two.
"""

import difflib
from collections.abc import Iterable

FAILED = 1  # a UserError: only a person can mend it
USAGE = 2  # argparse's
HUNG = 69  # the watchdog ended the process
CRASHED = 70  # an error that nobody foresaw, or that another process caused
STOPPED = 75  # a signal; the state is saved, the same command goes on
PERMANENT = (FAILED, USAGE)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name that is not known: the one most like it, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class UserError(Exception):
    """Something that the person running the program can mend; the message says how."""


class ConfigError(UserError):
    """A field that does not exist, a value that is not possible, or fields that disagree."""


class DataError(UserError):
    """A data set that is missing, or an image or record that cannot be read."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written, read or matched with the config."""


class DivergenceError(UserError):
    """A training loss that is not finite."""


class WeightsError(UserError):
    """Pretrained weights that are missing, damaged or of another model."""


class ExportError(UserError):
    """A model that a format cannot hold, or whose export does not say what it says."""

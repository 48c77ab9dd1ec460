"""Whether what is learnt from one split can be right on another."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from imagenet_jax.data.catalog import Split
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.errors import DataError

_SHOWN = 5  # names in a message
_BETWEEN = re.compile(r"(?<=\w)[\s_-]+(?=\w)|^\s+|\s+$")  # words, or around them


class Counted(NamedTuple):
    """How many images of each class a split has, int64 [K]."""

    split: str
    counts: np.ndarray


def check_splits(train_split: Split, eval_split: Split, *, open_set: bool = False) -> None:
    """Finds classes that cannot be learnt, or not be told from another.

    Args:
      train_split, eval_split: of a run.
      open_set: whether the evaluation may have other classes.

    Raises:
      DataError: if a label would not mean the same in both splits, or as `check_classes` says.
    """
    names = train_split.source.class_names
    if not open_set and names != eval_split.source.class_names:
        raise DataError(
            f"{train_split.name} has {train_split.num_classes} classes and {eval_split.name} has "
            f"{eval_split.num_classes}, or they have other names; they must be the same"
        )
    if shared := _shared(train_split, eval_split):
        logging.warning(
            "%d of the %d examples of %s are in %s, too: the evaluation is of what was learnt",
            *(shared, eval_split.num_examples, eval_split.name, train_split.name),
        )
    one = ONE in train_split.source.fields
    if len(names) == 1 and one:
        raise DataError(
            f"{train_split.config.data.name} has a single class, {names[0]!r}: there is nothing to "
            "tell apart"
        )
    counts = [getattr(s.source, "class_counts", None) for s in (train_split, eval_split)]
    # Those of records would have to be read; `prepare` looked at its own.
    if open_set or None in counts:
        return
    train, evaluation = (
        Counted(split.name, count())
        for split, count in zip((train_split, eval_split), counts, strict=True)
    )
    check_classes(names, train, evaluation, one=one)


def _shared(train_split: Split, eval_split: Split) -> int:
    """How many examples two parts of a split have in common; 0 where that cannot be told."""
    splits = (train_split, eval_split)
    names = [split.name.partition("[")[0] for split in splits]
    told = train_split.name == eval_split.name or any(hasattr(s.source, "index") for s in splits)
    if train_split.config.data.folds or names[0] != names[1] or not told:
        return 0
    parts = [getattr(s.source, "index", np.arange(s.num_examples)) for s in splits]
    return len(np.intersect1d(*parts, assume_unique=True))


def check_classes(names: Sequence[str], train: Counted, evaluation: Counted, *, one: bool) -> None:
    """Compares the images that the classes have in two splits.

    Classes without images in one of them are named in a warning, and those that differ in capital
    letters, spaces or the form of their accents alone.

    Args:
      names: of the classes.
      train, evaluation: of the splits.
      one: whether an image has one class.

    Raises:
      DataError: if no class has images in both splits, if one alone has any in training, or if
        a class has images in the one split and another, which differs as above, in the other.
    """
    trained, evaluated = train.counts > 0, evaluation.counts > 0
    only_trained, only_evaluated = (
        [names[k] for k in np.flatnonzero(has & ~other)]
        for has, other in ((trained, evaluated), (evaluated, trained))
    )
    _check_alike(names, only_trained, only_evaluated, train.split, evaluation.split)
    if one and only_trained and only_evaluated and not (trained & evaluated).any():
        raise DataError(
            f"no class has images in {train.split} as well as in {evaluation.split}: "
            f"{_few(only_trained)} there, {_few(only_evaluated)} here"
        )
    if one and trained.sum() == 1 and only_evaluated:
        raise DataError(
            f"{names[int(trained.argmax())]!r} alone of {len(names)} classes has images in "
            f"{train.split}: there is nothing to tell apart"
        )
    for missing, split in ((only_evaluated, train.split), (only_trained, evaluation.split)):
        if missing:
            few = _few(missing)
            logging.warning("%d classes have no images in %s: %s", len(missing), split, few)


def _check_alike(
    names: Sequence[str],
    only_trained: Sequence[str],
    only_evaluated: Sequence[str],
    train: str,
    evaluation: str,
) -> None:
    """Raises DataError for Cats in one split and cats in the other; warns of both in one."""
    plain = {_plain(name): name for name in only_trained}
    for name in only_evaluated:
        if other := plain.get(_plain(name)):
            raise DataError(
                f"{other!r} has images in {train} alone and {name!r} in {evaluation} "
                "alone; if they are one class, give them one name"
            )
    first: dict[str, str] = {}
    alike = [(a, name) for name in names if (a := first.setdefault(_plain(name), name)) != name]
    if alike:
        logging.warning(
            "%d classes are called nearly as others, e.g. %r and %r: are they one?",
            *(len(alike), *alike[0]),
        )


def _plain(name: str) -> str:
    """Without regard to what people and systems spell in several ways."""
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", name).casefold())


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""Whether what is learnt from one split can be right on another."""

from collections.abc import Sequence

import numpy as np
from absl import logging

from imagenet_jax.data.catalog import Split
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.errors import DataError

_SHOWN = 5  # names in a message


def check_splits(train_split: Split, eval_split: Split) -> None:
    """Finds classes that cannot be learnt, or not be told from another.

    Classes without images in one of the splits are named in a warning.

    Raises:
      DataError: if a label would not mean the same in both splits, if there is a single class, or
        if a class has images in the one split and another, which differs in capital letters,
        spaces or signs alone, in the other.
    """
    names = train_split.source.class_names
    if names != eval_split.source.class_names:
        raise DataError(
            f"{train_split.name} has {train_split.num_classes} classes and {eval_split.name} has "
            f"{eval_split.num_classes}, or they have other names; they must be the same"
        )
    if len(names) == 1 and ONE in train_split.source.fields:
        raise DataError(
            f"{train_split.config.data.name} has a single class, {names[0]!r}: there is nothing to "
            "tell apart"
        )
    counts = [getattr(s.source, "class_counts", None) for s in (train_split, eval_split)]
    if None in counts:  # of records, which would have to be read
        return
    trained, evaluated = (count() > 0 for count in counts)
    only_trained, only_evaluated = (
        [names[k] for k in np.flatnonzero(one & ~other)]
        for one, other in ((trained, evaluated), (evaluated, trained))
    )
    _check_alike(only_trained, only_evaluated, train_split, eval_split)
    for missing, split in ((only_evaluated, train_split), (only_trained, eval_split)):
        if missing:
            few = _few(missing)
            logging.warning("%d classes have no images in %s: %s", len(missing), split.name, few)


def _check_alike(
    only_trained: Sequence[str], only_evaluated: Sequence[str], train: Split, evaluation: Split
) -> None:
    """Raises DataError for Cats in one split and cats in the other."""
    plain = {_plain(name): name for name in only_trained}
    for name in only_evaluated:
        if other := plain.get(_plain(name)):
            raise DataError(
                f"{other!r} has images in {train.name} alone and {name!r} in {evaluation.name} "
                "alone; if they are one class, give them one name"
            )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

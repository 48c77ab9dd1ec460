"""The part of a data set's split that a run trains or evaluates on."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from absl import logging

from imagenet_jax.config.semi_fields import labelled_fields
from imagenet_jax.data.sources.joined import JoinedSource, joined
from imagenet_jax.data.sources.labelled import labelled_source, source_without_class
from imagenet_jax.data.sources.open_set import open_set_part
from imagenet_jax.data.sources.parts import fold_of

if TYPE_CHECKING:  # it imports this
    from imagenet_jax.data.catalog import Split


def part_of(split: "Split", train: bool) -> "Split":
    """What is left of a split by config.data: folds, held_out_classes, and which have labels.

    A line of the log says how many images have labels, where not all have.

    Args:
      split: that is trained on, or evaluated on; with folds that is trained on.
      train: which of the two.

    Raises:
      DataError: for a part without images, for classes that do not exist or that lack images.
    """
    config, data = split.config, split.config.data
    if data.folds:
        which = {"fold": data.fold, "folds": data.folds, "train": train}
        if isinstance(split.source, JoinedSource):
            parts = split.source.parts.items()
            part = joined({fields: fold_of(source, **which) for fields, source in parts})
        else:
            part = fold_of(split.source, **which)
        split = dataclasses.replace(split, source=part, train=train)
    if data.held_out_classes:
        name = split.name.rpartition(",")[0]
        part = open_set_part(split.source, data.held_out_classes, name, train=train)
        split = dataclasses.replace(split, source=part)
    if train and labelled_fields(data):
        source, about = labelled_source(split.source, data, config.seed, split.name)
        say_once(about)
        split = dataclasses.replace(split, source=source)
    elif data.unlabelled_class:
        part = source_without_class(split.source, data.unlabelled_class)
        split = dataclasses.replace(split, source=part)
    return split


@functools.cache  # both splits are of the same files, and each stage opens its own
def say_once(text: str) -> None:
    """A line of the log."""
    logging.warning("%s", text)

"""The order of a training split, by config.data."""

from typing import TYPE_CHECKING

import numpy as np

from imagenet_jax.data.balanced_order import BalancedOrder
from imagenet_jax.data.labelled_order import LabelledOrder
from imagenet_jax.data.order import TrainOrder
from imagenet_jax.data.per_class_order import PerClassOrder
from imagenet_jax.data.sources.classes import examples_by_class
from imagenet_jax.data.split_parts import say_once
from imagenet_jax.errors import DataError

if TYPE_CHECKING:  # it imports this
    from imagenet_jax.data.catalog import Split


def training_order(
    split: "Split", rows: np.ndarray, offset: int = 0, epoch_offset: int = 0
) -> TrainOrder:
    """Which examples stand in the rows of each step.

    Args:
      split: that is trained on.
      rows: of each global batch.
      offset, epoch_offset: see `order.TrainOrder`.

    Raises:
      DataError: for batches of more classes than there are.
    """
    config, data = split.config, split.config.data
    how = (config.seed, split.num_examples, config.batch_size, rows, data.repeats)
    order = TrainOrder(*how, offset, epoch_offset)
    if data.per_class:
        by_class = examples_by_class(split.labels)
        _check_per_class(split, by_class)
        return PerClassOrder(**vars(order), by_class=by_class, per_class=data.per_class)
    if data.labelled_share:
        source, share = split.encoded, data.labelled_share
        streams = {"labelled": source.labelled, "unlabelled": source.unlabelled}
        return LabelledOrder(**vars(order), **streams, labelled_share=share)
    if data.sampling == "balanced":
        return BalancedOrder(**vars(order), by_class=examples_by_class(split.labels))
    return order


def _check_per_class(split: "Split", by_class: list[np.ndarray]) -> None:
    """Says if classes have too few images. Raises DataError for too few classes."""
    config, per_class, classes = split.config, split.config.data.per_class, len(by_class)
    at_once = config.batch_size // per_class
    if at_once > classes:
        raise DataError(
            f"config.batch_size = {config.batch_size} with config.data.per_class = {per_class} are "
            f"{at_once} classes a batch, and {split.name} of {config.data.name} has images of "
            f"{classes}; set batch_size to {classes * per_class} at most"
        )
    few = sum(len(examples) < per_class for examples in by_class)
    if few:
        say_once(
            f"{config.data.name}: {few:,} of {classes:,} classes have fewer than data.per_class = "
            f"{per_class} images, which come several times in a batch"
        )

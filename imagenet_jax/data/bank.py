"""The images of a training split as an evaluation sees them: to compare with, to learn a probe."""

import numpy as np

from imagenet_jax.data.catalog import Split, open_split
from imagenet_jax.data.names import train_size
from imagenet_jax.data.sources.parts import part_with


def bank_of(split: Split, most: int = 0) -> Split:
    """A training split in evaluation mode: its crop and its size, nothing augmented.

    No second copy is kept in memory: with data.cache the pixels are those of training where they
    are the same, and are decoded again each time where they are not.

    Args:
      split: of training, by the run's own config.
      most: examples at most, see `evenly`; 0: all.
    """
    source, name = split.encoded, split.name
    if split.config.data.name == "fake":
        source = _fake(split)
    elif hasattr(split.source, "arrays") and _same_pixels(split):
        source = split.source
    if 0 < most < len(source):
        source = part_with(source, evenly(len(source), most, split.config.seed))
    config = split.config.copy_and_resolve_references()
    # Its name says what of the data set it is, and not which part is left out of it.
    config.data.update(cache=False, folds=0, held_out_classes=())
    return Split(config, source, train=False, found=name)


def evenly(count: int, most: int, seed: int) -> np.ndarray:
    """One at random of each of `most` equal stretches of 0 to count - 1, int64 [most], rising.

    Where a split is in the order of its classes, each has its share.
    """
    ends = np.arange(most + 1) * count // most
    return np.random.default_rng(seed).integers(ends[:-1], ends[1:])


def _fake(split: Split) -> object:
    """The source with images of the size that evaluation sees."""
    config = split.config.copy_and_resolve_references()
    config.data.update(train_size=0, views=1, crops=1, local_crops=0)
    return open_split(config, True, tuple(split.source.fields)).source


def _same_pixels(split: Split) -> bool:
    """Whether training makes of an image what evaluation does; data.cache refuses what is drawn."""
    data = split.config.data
    same_size = train_size(data) == data.image_size and data.train_crop == data.eval_crop
    method = data.eval_resize_method or data.resize_method
    drafted = data.draft and data.train_crop == "center_crop"
    return same_size and not drafted and method == data.resize_method != "random"

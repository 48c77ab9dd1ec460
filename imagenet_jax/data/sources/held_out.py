"""The tenth of a data set without splits that is kept from training, to evaluate on."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imagenet_jax.data.sources.parts import EncodedPart
from imagenet_jax.errors import DataError

if TYPE_CHECKING:  # it imports this
    from imagenet_jax.data.sources.files import FileSource

_ONE_OF = 10  # images of a class is held out


class HeldOut(EncodedPart):
    """The tenth that is held out of files without splits, or all but it; as `FileSource`.

    Attributes:
      about: how much is held out, for a line of the log.
    """

    def __init__(self, source: "FileSource", train: bool):
        """Raises DataError if no class has two images, one of which could be evaluated on."""
        groups, names = source.groups(), [source.name(i) for i in range(len(source))]
        # Below a folder around all, as in an archive of it; they are sorted.
        letters = enumerate(zip(names[0], names[-1], strict=False))
        same = next((place for place, (one, other) in letters if one != other), 0)
        around = names[0].rfind("/", 0, same) + 1
        held_out = tenth_of(groups, [name[around:] for name in names])
        if not held_out.any():
            raise DataError(f"{source.describe(0)}: neither its class nor another has two images")
        super().__init__(source, np.flatnonzero(held_out != train))
        self.left_out = source.left_out
        self.split = f"{source.split}, all but the held-out tenth" if train else "held-out tenth"
        found = sorted({*np.unique_counts(groups[held_out]).counts.tolist()})
        count = f"{found[0]:,} to {found[-1]:,}" if len(found) > 1 else f"{found[0]:,}"
        each = " of each class" if source.fields.keys() == {"label"} else ""
        self.about = f"no splits: {count} images{each} are held out to evaluate on, a tenth by name"

    def class_counts(self) -> np.ndarray:
        """How many images of the part each class has, int64 [K]."""
        labels = itertools.chain.from_iterable(map(self.source.labels_of, self.index))
        return np.bincount(np.fromiter(labels, np.int64), minlength=len(self.class_names))


def name_shares(names: Iterable[str]) -> np.ndarray:
    """A number for each name, float64 in [0, 1], which looks random.

    An image that is held out for its name's number stays so when others are added.
    """
    hashes = (hashlib.sha1(name.encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in hashes])


def tenth_of(groups: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Which examples are held out of a data set without splits, bool [N].

    A tenth of each group by the numbers of their names, one at least of a group that has two.

    Args:
      groups: the group of each example, int [N].
      names: of the examples, in the same order.
    """
    order = np.lexsort((name_shares(names), groups))
    _, first, of_group, sizes = np.unique(
        groups[order], return_index=True, return_inverse=True, return_counts=True
    )
    count = np.where(sizes > 1, np.maximum(1, (sizes + _ONE_OF // 2) // _ONE_OF), 0)
    held_out = np.empty(len(order), bool)
    held_out[order] = np.arange(len(order)) - first[of_group] < count[of_group]
    return held_out

"""What nearest neighbours say: the weighted vote of Wu et al. 2018, as DINO evaluates features.

https://arxiv.org/abs/1805.01978, section 3.4; Caron et al. 2021, https://arxiv.org/abs/2104.14294,
and its eval_knn.py. It is exact, and its memory does not grow with the number of images.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_QUERIES, _BANK = 1024, 16384  # rows that are compared at once: 64 MB of similarities


class Neighbours(NamedTuple):
    """The k nearest of each of n images, the nearest first.

    Attributes:
      similarity: cosines, float32 [n, k].
      place: where they stand in the bank, int64 [n, k].
    """

    similarity: np.ndarray
    place: np.ndarray


def unit(features: np.ndarray) -> np.ndarray:
    """Features [N, D] divided by their length, float32; 0 where that is 0 or no number."""
    features = np.float32(features)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        length = np.linalg.norm(features, axis=1, keepdims=True)
        return np.nan_to_num(features / length, posinf=0.0, neginf=0.0)


def nearest(queries: np.ndarray, bank: np.ndarray, count: int) -> Neighbours:
    """The `count` nearest of a bank by cosine similarity; of equally near ones the first.

    Args:
      queries: [n, D] of length 1, see `unit`.
      bank: [N, D] of length 1.
      count: 1 to N.
    """
    near = np.empty((len(queries), 0), np.float32)
    place = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(bank), _BANK):
        block = queries @ bank[start : start + _BANK].T
        best = _largest(block, min(count, block.shape[1]))
        # What was found before stands before the block: it comes first of what is equally near.
        near = np.concatenate([near, np.take_along_axis(block, best, 1)], 1)
        place = np.concatenate([place, best + start], 1)
        best = _largest(near, min(count, near.shape[1]))
        near, place = np.take_along_axis(near, best, 1), np.take_along_axis(place, best, 1)
    order = np.argsort(-near, 1, kind="stable")
    return Neighbours(np.take_along_axis(near, order, 1), np.take_along_axis(place, order, 1))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The columns of the largest of each row, rising, int64 [n, count]; of equal ones the first."""
    columns = values.shape[1]
    if count == columns:
        return np.broadcast_to(np.arange(columns), values.shape)
    limit = np.partition(values, columns - count, 1)[:, columns - count, None]
    chosen = values >= limit
    tied = np.flatnonzero(np.count_nonzero(chosen, 1) > count)
    above, equal = values[tied] > limit[tied], values[tied] == limit[tied]
    room = count - np.count_nonzero(above, 1)[:, None]
    chosen[tied] = above | (equal & (np.cumsum(equal, 1, dtype=np.int32) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), count)


def votes(found: Neighbours, labels: np.ndarray, classes: int, temperature: float) -> np.ndarray:
    """What the neighbours' classes get, float64 [n, classes]: exp(similarity / temperature) each.

    Those of a row are divided by what its nearest counts, which changes no order and is finite.

    Args:
      found: of n images.
      labels: of the bank, int [N], below `classes`.
      classes: how many there are.
      temperature: above 0.
    """
    similarity = np.float64(found.similarity)
    weight = np.exp((similarity - similarity[:, :1]) / temperature)
    row = np.arange(len(weight))[:, None]
    places = (row * classes + labels[found.place]).ravel()
    return np.bincount(places, weight.ravel(), len(weight) * classes).reshape(-1, classes)


def ranks(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes got more votes than the right one, int64 [n]; of equal votes the class of
    the lower number comes first, and one without any vote after all.

    Args:
      found: float64 [n, K], see `votes`.
      labels: int [n], the right ones.
    """
    classes = found.shape[1]
    own = np.take_along_axis(found, labels[:, None], 1)
    before = (found == own) & (np.arange(classes) < labels[:, None])
    rank = ((found > own) | before).sum(1)
    return np.where(own[:, 0] > 0, rank, classes)


class Bank(NamedTuple):
    """Images of known classes.

    Attributes:
      features: float32 [N, D] of length 1.
      labels: int [N].
    """

    features: np.ndarray
    labels: np.ndarray


def count_right(
    queries: Bank,
    bank: Bank,
    count: int,
    temperature: float,
    show: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Of how many images the vote says the class, and of how many among its first five, int64 [2].

    Args:
      queries: the images; their classes need not be in the bank.
      bank: what votes.
      count: neighbours that do; all of the bank if it has fewer.
      temperature: see `votes`.
      show: is told how many images are done.
    """
    classes = 1 + int(max(queries.labels.max(initial=0), bank.labels.max(initial=0)))
    right, count = np.zeros(2, np.int64), min(count, len(bank.labels))
    for start in range(0, len(queries.labels), _QUERIES):
        rows = slice(start, start + _QUERIES)
        found = nearest(queries.features[rows], bank.features, count)
        rank = ranks(votes(found, bank.labels, classes, temperature), queries.labels[rows])
        right += [(rank < 1).sum(), ((rank < 5) & (rank < classes)).sum()]
        show(start + len(rank))
    return right

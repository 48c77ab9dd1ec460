"""Are two images of one class? Pairs, the receiver operating characteristic, 10 folds.

The protocol is that of Labeled Faces in the Wild (Huang et al. 2007): in each of ten folds the
threshold is the best one of the other nine.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.errors import DataError

FOLDS = 10
FAR = 1e-3  # the false-accept rate that a result names
_FARTHEST = 4.0  # beyond any cosine distance: of embeddings that are no numbers


class PairList(NamedTuple):
    """Pairs of images.

    Attributes:
      first, second: int64 [n], of arrays of embeddings.
      same: bool [n], whether they are of one class.
      fold: int64 [n], 0 to 9.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray


def make_pairs(labels: np.ndarray, most: int) -> PairList:
    """As many pairs of one class as of two, drawn at random, each at most once.

    They are a function of the arguments alone: the same in every run.

    Args:
      labels: int [N].
      most: pairs at most; a whole multiple of 20 is made.

    Raises:
      DataError: for labels of fewer than ten pairs of one class, or of two.
    """
    count = np.unique_counts(labels).counts.astype(np.int64)
    whole = len(labels) * (len(labels) - 1) // 2
    possible = int((count * (count - 1) // 2).sum())
    half = min(most // 2, possible, whole - possible) // FOLDS * FOLDS
    if not half:
        raise DataError(
            f"verification in {FOLDS} folds needs {FOLDS} pairs of images of one class and as many "
            f"of two; the {len(labels)} images of {len(count)} classes make {possible} and "
            f"{whole - possible}. Evaluate on more: hold out more classes "
            "(config.data.held_out_classes), or take another split (config.data.eval_split)"
        )
    rng = np.random.default_rng(0)
    pairs = [_drawn(labels, half, same, rng) for same in (True, False)]
    fold = np.concatenate([rng.permutation(np.arange(half) % FOLDS) for _ in pairs])
    first, second = np.concatenate(pairs, 1)
    return PairList(first, second, np.repeat([True, False], half), fold)


def _drawn(labels: np.ndarray, count: int, same: bool, rng: np.random.Generator) -> np.ndarray:
    """So many different pairs of one class, or of two, int64 [2, count]."""
    total, order = len(labels), np.argsort(labels, kind="stable")
    _, start, inverse, size = np.unique(
        labels[order], return_index=True, return_inverse=True, return_counts=True
    )
    possible = int((size.astype(np.int64) * (size - 1) // 2).sum())
    few = possible if same else total * (total - 1) // 2
    if few <= max(4 * count, 10**6):  # all of them fit into memory
        blocks = zip(start, size, strict=True) if same else [(0, total)]
        rows = np.concatenate([n + np.stack(np.triu_indices(k, 1)) for n, k in blocks], 1)
        rows = rows[:, (inverse[rows[0]] == inverse[rows[1]]) == same]
        return order[rows[:, rng.permutation(rows.shape[1])[:count]]]
    paired = np.flatnonzero(size[inverse] > 1) if same else np.arange(total)
    found = np.zeros(0, np.int64)
    while len(found) < count:
        first = paired[rng.integers(len(paired), size=2 * count)]
        of = inverse[first]
        # Within the class, or somewhere behind it, around the end of the list.
        low, width = start[of], size[of] if same else total - size[of]
        shift = 0 if same else size[of]
        second = low + shift + (rng.random(2 * count) * width).astype(np.int64)
        second = second % total
        good = first != second
        low, high = np.minimum(first, second)[good], np.maximum(first, second)[good]
        found = np.concatenate([found, low * total + high])
        _, place = np.unique(found, return_index=True)
        found = found[np.sort(place)]
    return order[np.stack(np.divmod(found[:count], total))]


def cosine_distances(embedding: np.ndarray, pairs: PairList) -> np.ndarray:
    """Of embeddings [N, D] of length 1, float64 [n] of 0 to 2; 4 where one is no number."""
    found = np.empty(len(pairs.first))
    for start in range(0, len(found), 4096):
        part = slice(start, start + 4096)
        one, other = (np.float64(embedding[rows[part]]) for rows in (pairs.first, pairs.second))
        found[part] = 1 - (one * other).sum(1)
    return np.where(np.isfinite(found), found.clip(0, 2), _FARTHEST)


def best_threshold(distances: np.ndarray, same: np.ndarray) -> float:
    """The distance up to which pairs are best called the same: between two neighbouring ones.

    Of several that are equally good the lowest.
    """
    order = np.argsort(distances, kind="stable")
    ordered, alike = distances[order], same[order]
    right = np.concatenate([[0], np.cumsum(np.where(alike, 1, -1))])  # beyond those of different
    cuts = np.concatenate([[True], np.diff(ordered) > 0, [True]])  # equal ones are told alike
    cut = int(np.flatnonzero(cuts)[right[cuts].argmax()])
    low = ordered[cut - 1] if cut else ordered[0] - 1e-6
    high = ordered[cut] if cut < len(ordered) else ordered[-1]
    return float((low + high) / 2)


class Verification:
    """What distances tell of pairs, of which there are some of each kind.

    Attributes:
      distances: float64 [n].
      pairs: the pairs.
    """

    def __init__(self, distances: np.ndarray, pairs: PairList):
        self.distances, self.pairs = distances, pairs

    @functools.cached_property
    def roc(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False-accept rates, true-accept rates and the distances up to which pairs are accepted,
        float64 [m] each, from none to all; by scikit-learn."""
        from sklearn.metrics import roc_curve  # a second to import

        far, tar, score = roc_curve(self.pairs.same, -self.distances, drop_intermediate=False)
        return far, tar, np.maximum(-score, -1.0)  # at first nothing is accepted

    @functools.cached_property
    def right(self) -> np.ndarray:
        """Which pairs are told right, each by the threshold of its fold, bool [n]."""
        found = np.zeros(len(self.distances), bool)
        for fold in range(FOLDS):
            mine = self.pairs.fold == fold
            limit = best_threshold(self.distances[~mine], self.pairs.same[~mine])
            found[mine] = (self.distances[mine] <= limit) == self.pairs.same[mine]
        return found

    @functools.cached_property
    def fold_accuracies(self) -> np.ndarray:
        """The share of the pairs of each fold that is told right, float64 [10]."""
        return np.array([self.right[self.pairs.fold == fold].mean() for fold in range(FOLDS)])

    def at(self, far: float) -> tuple[float, float]:
        """The true-accept rate and the distance of a false-accept rate of `far` at most."""
        rates, tar, distances = self.roc
        place = int(np.flatnonzero(rates <= far)[-1])
        return float(tar[place]), float(distances[place])

    @property
    def equal_error_rate(self) -> float:
        """Where as many pairs of one class are refused as of two accepted, between two points of
        the curve on the line through them."""
        far, tar, _ = self.roc
        apart = far - (1 - tar)  # rises from -1 to 1
        place = int(np.flatnonzero(apart >= 0)[0])
        if apart[place] == 0 or not place:
            return float(far[place])
        share = -apart[place - 1] / (apart[place] - apart[place - 1])
        return float(far[place - 1] + share * (far[place] - far[place - 1]))

    def metrics(self) -> dict[str, Any]:
        """num_pairs; accuracy, the mean over the folds, and accuracy_std, their standard deviation;
        threshold, the best distance for all pairs; auc, eer and tar_at_far_1e3."""
        from sklearn.metrics import auc

        far, tar, _ = self.roc
        return {
            "num_pairs": len(self.distances),
            "accuracy": float(self.fold_accuracies.mean()),
            "accuracy_std": float(self.fold_accuracies.std()),
            "threshold": best_threshold(self.distances, self.pairs.same),
            "auc": float(auc(far, tar)),
            "eer": self.equal_error_rate,
            "tar_at_far_1e3": self.at(FAR)[0],
        }

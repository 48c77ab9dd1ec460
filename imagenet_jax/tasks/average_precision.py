"""Mean average precision of the classes of images, by scikit-learn."""

from collections.abc import Mapping

import numpy as np


class MeanAveragePrecision:
    """The mean over the classes of their average precision; see `task.Meter`."""

    def __init__(self) -> None:
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes scores float32 [n, K], the higher the more probable, and labels [n, K], 0 or 1."""
        self._scores.append(observed["scores"])
        self._labels.append(observed["labels"])

    def metrics(self) -> dict[str, float | int]:
        """map, NaN without any label, and classes_without_examples, which are left out of it."""
        from sklearn.metrics import average_precision_score  # a second to import

        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        # Scores that are no numbers come last; scikit-learn takes neither them nor infinity.
        limits = np.finfo(scores.dtype)
        scores = np.nan_to_num(scores, nan=limits.min, posinf=limits.max, neginf=limits.min)
        there = labels.any(0)
        found = [average_precision_score(labels[:, k], scores[:, k]) for k in np.flatnonzero(there)]
        return {
            "map": float(np.mean(found)) if found else float("nan"),
            "classes_without_examples": int((~there).sum()),
        }

"""Mean average precision of the classes of images, by scikit-learn."""

import functools
from collections.abc import Mapping

import numpy as np


class MeanAveragePrecision:
    """The mean over the classes of their average precision; see `task.Meter`."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {"index": [], "scores": [], "labels": []}

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes scores float32 [n, K], the higher the more probable, labels [n, K], 0 or 1, and
        index int32 [n], the numbers in the split."""
        for name, parts in self._parts.items():
            parts.append(observed[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was added, of all N examples; scores are finite."""
        found = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        # Scores that are no numbers come last; scikit-learn takes neither them nor infinity.
        limits = np.finfo(found["scores"].dtype)
        numbers = {"nan": limits.min, "posinf": limits.max, "neginf": limits.min}
        return found | {"scores": np.nan_to_num(found["scores"], **numbers)}

    @functools.cached_property
    def of_classes(self) -> np.ndarray:
        """The average precision of each class, float64 [K], NaN where no example has it."""
        from sklearn.metrics import average_precision_score  # a second to import

        arrays = self.arrays()
        found = np.full(arrays["labels"].shape[1], np.nan)
        for k in np.flatnonzero(arrays["labels"].any(0)):
            found[k] = average_precision_score(arrays["labels"][:, k], arrays["scores"][:, k])
        return found

    def metrics(self) -> dict[str, float | int]:
        """map, NaN without any label, and classes_without_examples, which are left out of it."""
        there = np.isfinite(self.of_classes)
        return {
            "map": float(np.mean(self.of_classes[there])) if there.any() else float("nan"),
            "classes_without_examples": int((~there).sum()),
        }

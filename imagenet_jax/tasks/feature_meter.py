"""What features of a whole split are worth, by those of the training images; see `task.Meter`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from imagenet_jax.errors import DataError
from imagenet_jax.tasks.collapse import feature_std
from imagenet_jax.tasks.linear_probe import fit_linear
from imagenet_jax.tasks.nearest import Bank, count_right, unit
from imagenet_jax.terminal import working


class FeatureMeter:
    """Nearest neighbours and a linear probe, and how far the features are spread.

    Of several processes each compares a share of the images, and the first fits the probe.

    Attributes:
      knn: neighbours that vote; 0: none.
      temperature: see `nearest.votes`.
      linear: whether to fit a probe.
    """

    def __init__(self, knn: int, temperature: float, linear: bool):
        self.knn, self.temperature, self.linear = knn, temperature, linear
        self._learnt: list[Mapping[str, np.ndarray]] = []
        self._added: list[Mapping[str, np.ndarray]] = []

    def learn(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes features float32 [n, D], label int32 [n] and index int32 [n] of training images."""
        self._learnt.append(observed)

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """As `learn`, of evaluated images; without label where none is known."""
        self._added.append(observed)

    @functools.cached_property
    def bank(self) -> dict[str, np.ndarray]:
        """What was learnt of all training images, in the order of their split."""
        return _in_order(self._learnt, "training")

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was added of all evaluated images, in the order of their split."""
        return _in_order(self._added, "evaluation")

    def metrics(self) -> dict[str, Any]:
        """knn and knn_top5, shares of the images whose class the vote says, or has among its first
        five; linear, of those that the probe does; feature_std, see `collapse.feature_std`."""
        found: dict[str, Any] = {}
        if self.knn:
            right, right5 = self._knn_right()
            found |= {"knn": right, "knn_top5": right5}
        if self.linear:
            found["linear"] = self._linear_right()
        count = len(self.arrays["index"])
        found = {name: int(right) / count for name, right in found.items()}
        return found | {"feature_std": float(feature_std(np.float32(self.arrays["features"])))}

    def _knn_right(self) -> np.ndarray:
        """Of all images, int [2]."""
        mine = slice(jax.process_index(), None, jax.process_count())
        queries = Bank(unit(self.arrays["features"][mine]), self.arrays["label"][mine])
        bank = Bank(unit(self.bank["features"]), self.bank["label"])
        what = f"comparing with {len(bank.labels):,} training images"
        with working(what, stays=False) as show:
            report = _progress(show, what, len(queries.labels))
            right = count_right(queries, bank, self.knn, self.temperature, report)
        if jax.process_count() == 1:
            return right
        return multihost_utils.process_allgather(np.int32(right)).sum(0)

    def _linear_right(self) -> int:
        """Of all images."""
        right, known = 0, self.bank["label"]
        if len(np.unique(known)) < 2:  # in all processes, as they wait for each other
            raise DataError(
                f"config.eval.linear_probe tells classes apart, and the {len(known):,} training "
                "images that it learns from are of one; set it to False, or take more "
                "(config.eval.probe_examples)"
            )
        if jax.process_index() == 0:
            with working(f"fitting a linear probe to {len(known):,} training images"):
                fitted = fit_linear(np.nan_to_num(self.bank["features"]), known)
                told = fitted.predict(np.nan_to_num(self.arrays["features"]))
            right = int((told == self.arrays["label"]).sum())
        if jax.process_count() == 1:
            return right
        return int(multihost_utils.broadcast_one_to_all(np.int32(right)))


def _progress(show: Callable[[str], None], what: str, count: int) -> Callable[[int], None]:
    return lambda done: show(f"{what}: {done:,} of {count:,}")


def _in_order(parts: list[Mapping[str, np.ndarray]], what: str) -> dict[str, np.ndarray]:
    """All of them, by their numbers. Raises DataError if there are none."""
    if not sum(len(part["index"]) for part in parts):
        raise DataError(f"no {what} image could be read: there are no features to compare")
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(found["index"], kind="stable")
    return {name: array[order] for name, array in found.items()}

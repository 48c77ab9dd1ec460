"""What embeddings of a whole split are worth; see `task.Meter`."""

import functools
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.errors import DataError
from imagenet_jax.tasks.group_files import Groups, find_groups, read_groups
from imagenet_jax.tasks.group_results import group_metrics
from imagenet_jax.tasks.pair_files import find_pairs, read_pairs
from imagenet_jax.tasks.retrieval import retrieval
from imagenet_jax.tasks.verification import (
    FAR,
    FOLDS,
    PairList,
    Verification,
    cosine_distances,
    make_pairs,
)


class EmbeddingMeter:
    """Verification of pairs, and retrieval among all images.

    Attributes:
      listed: pairs by the numbers of the examples of the split; None: they are made.
      most: pairs that are made at most.
      groups: of the examples of the split; None: results are not told of groups.
      group_far: see `group_metrics`.
    """

    def __init__(
        self,
        most: int,
        listed: PairList | None = None,
        groups: Groups | None = None,
        group_far: float = FAR,
    ):
        self.most, self.listed = most, listed
        self.groups, self.group_far = groups, group_far
        self._parts: dict[str, list[np.ndarray]] = {"index": [], "embedding": [], "label": []}

    @classmethod
    def of_split(cls, settings: ml_collections.ConfigDict, split: Split) -> "EmbeddingMeter":
        """By config.embedding.

        Raises:
          DataError: for a split without pairs, pairs of images that it does not have, or groups of
            nothing in it.
        """
        pairs, groups = None, None
        listed = settings.pairs or settings.groups
        names = [split.example_name(n) for n in range(split.num_examples)] if listed else []
        if settings.pairs:
            pairs = find_pairs(read_pairs(settings.pairs), names, split.name)
        else:
            make_pairs(split.labels, settings.num_pairs)  # before anything is learnt for them
        if settings.groups:
            told = read_groups(settings.groups, settings.group_column)
            groups = find_groups(told, names, split.labels, split.source.class_names, split.name)
        return cls(settings.num_pairs, pairs, groups, settings.group_far)

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes embedding float32 [n, D] of length 1, label int32 [n] and index int32 [n], the
        numbers in the split."""
        for name, parts in self._parts.items():
            parts.append(observed[name])

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was added, of all N examples, in the order of the split."""
        if not sum(map(len, self._parts["index"])):
            raise DataError("no image could be read: there is nothing to verify")
        found = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        order = np.argsort(found["index"], kind="stable")
        return {name: array[order] for name, array in found.items()}

    @functools.cached_property
    def pairs(self) -> PairList:
        """Of the places in `arrays`; those of which both images could be read."""
        if self.listed is None:
            return make_pairs(self.arrays["label"], self.most)
        index, listed = self.arrays["index"], self.listed
        ends = np.stack([listed.first, listed.second])
        places = np.searchsorted(index, ends).clip(0, len(index) - 1)
        there = (index[places] == ends).all(0)
        found = PairList(*places[:, there], listed.same[there], listed.fold[there])
        each = [found.same[found.fold == fold] for fold in range(FOLDS)]
        if not all(len(same) and 0 < same.mean() < 1 for same in each):
            raise DataError(
                f"of the {len(there):,} pairs of config.embedding.pairs {int(there.sum()):,} have "
                "two images that could be read, and a fold has not both kinds of pairs"
            )
        return found

    @functools.cached_property
    def verification(self) -> Verification:
        """Of the pairs."""
        return Verification(cosine_distances(self.arrays["embedding"], self.pairs), self.pairs)

    def metrics(self) -> dict[str, Any]:
        """Those of `Verification` and of `retrieval`; pairs_left_out, of which an image could not
        be read; with groups those of `group_metrics`."""
        listed = len(self.pairs.same) if self.listed is None else len(self.listed.same)
        return {
            **self.verification.metrics(),
            "pairs_left_out": listed - len(self.pairs.same),
            **retrieval(self.arrays["embedding"], self.arrays["label"]),
            **self.of_groups,
        }

    @functools.cached_property
    def of_groups(self) -> dict[str, Any]:
        """See `group_metrics`; nothing without groups."""
        if self.groups is None:
            return {}
        number = self.groups.number[self.arrays["index"]]
        return group_metrics(self.verification, self.groups, number, self.group_far)


def result_rows(result: Mapping[str, Any]) -> dict[str, str]:
    """See `Task.rows`."""
    pairs = f"{result['num_pairs']:,} pairs"
    if left_out := result["pairs_left_out"]:
        pairs += f", {left_out:,} left out"
    alone = result["without_match"]
    note = f"  ({alone:,} images that are alone are left out)" if alone else ""
    return {
        "verification": f"{result['accuracy']:.2%} +- {result['accuracy_std']:.2%} of {pairs} "
        "in 10 folds",
        "AUC": f"{result['auc']:.4f}",
        "equal error rate": f"{result['eer']:.2%}",
        "TAR at FAR 1e-3": f"{result['tar_at_far_1e3']:.2%}",
        "best threshold": f"{result['threshold']:.4f}, of the cosine distance",
        "recall": f"at 1 {result['recall_at_1']:.2%}, at 5 {result['recall_at_5']:.2%}{note}",
        "mAP at R": f"{result['map_at_r']:.2%}",
    }

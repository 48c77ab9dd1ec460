"""What a verification found: its curve, the distances to accept, and the pairs it is wrong on."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.atomic import replace_text
from imagenet_jax.printable import printable
from imagenet_jax.reports.mistake_pictures import draw_images, short
from imagenet_jax.reports.mistakes import write_files
from imagenet_jax.reports.writers import replace_csv, replace_figure

THRESHOLDS = "thresholds.json"
_DRAWN_PAIRS = 12


@dataclasses.dataclass(frozen=True)
class PairMistakes:
    """What was found of n pairs of images.

    Attributes:
      first, second: int [n], the numbers of the images in the split.
      same: bool [n], whether they are of one class.
      distances: float [n], cosine distances.
      roc: false-accept rates, true-accept rates and distances, float [m] each.
      metrics: what the evaluation says; threshold among it.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    distances: np.ndarray
    roc: tuple[np.ndarray, np.ndarray, np.ndarray]
    metrics: Mapping[str, Any]

    def worst(self, most: int) -> np.ndarray:
        """Places of the pairs on the wrong side of the threshold, the farthest from it first."""
        beyond = self.distances - self.metrics["threshold"]
        wrong = np.flatnonzero((beyond <= 0) != self.same)
        return wrong[np.argsort(-np.abs(beyond[wrong]), kind="stable")][:most]


def write_pair_mistakes(
    mistakes: PairMistakes,
    folder: Path,
    about: str,
    name_of: Callable[[int], str],
    pixels_of: Callable[[np.ndarray], np.ndarray],
    tables: Mapping[str, Iterable[Sequence[Any]]] | None = None,
) -> dict[str, Any]:
    """Writes thresholds.json, roc.png and most_wrong.png.

    Arguments as of `mistakes.write_mistakes`.

    Args:
      tables: the rows of more files, by their names.

    Returns:
      folder; files, the names of those that were written.
    """
    worst = mistakes.worst(_DRAWN_PAIRS)
    images = np.stack([mistakes.first[worst], mistakes.second[worst]], 1).ravel()
    makers = {
        THRESHOLDS: lambda path: _write_thresholds(mistakes, about, path),
        "roc.png": lambda path: _draw_curve(mistakes, about, path),
        "most_wrong.png": lambda path: draw_images(
            pixels_of(images),
            _captions(mistakes, worst, name_of),
            f"{about}\npairs side by side that are told most wrongly; red: called the same and are "
            "not, blue: the same and not found",
            path,
        ),
    }
    if not len(worst):
        del makers["most_wrong.png"]
    for name, rows in (tables or {}).items():
        makers[name] = functools.partial(replace_csv, rows=rows)
    return {"folder": str(folder), "files": write_files(folder, makers)}


def _write_thresholds(mistakes: PairMistakes, about: str, path: Path) -> None:
    """The curve: of each false-accept rate the highest true-accept rate and its distance."""
    far, tar, distance = mistakes.roc
    last = np.append(np.diff(far) > 0, True)
    facts = {
        "about": about,
        **{name: mistakes.metrics[name] for name in ("num_pairs", "accuracy", "threshold", "eer")},
        "different_pairs": int((~mistakes.same).sum()),
        "far": far[last].tolist(),
        "tar": tar[last].tolist(),
        "distance": distance[last].tolist(),
    }
    replace_text(path, json.dumps(facts) + "\n")


def _captions(
    mistakes: PairMistakes, places: np.ndarray, name_of: Callable[[int], str]
) -> list[list[tuple[str, str]]]:
    found = []
    for place in places:
        color = "tab:blue" if mistakes.same[place] else "firebrick"
        text = f"distance {mistakes.distances[place]:.3f}"
        for words, index in ((text, mistakes.first[place]), ("", mistakes.second[place])):
            name = printable(name_of(int(index)))
            found.append([(words, color), (short(name, 30), "gray")])
    return found


def _draw_curve(mistakes: PairMistakes, about: str, path: Path) -> None:
    """The true-accept rate over the logarithm of the false-accept rate, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    (far, tar, _), metrics = mistakes.roc, mistakes.metrics
    least = 1 / max(int((~mistakes.same).sum()), 1)
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    try:
        label = f"area {metrics['auc']:.4f}, equal error {metrics['eer']:.2%}"
        axes.step(np.maximum(far, least / 2), tar, where="post", label=label)
        axes.set(xlabel="false-accept rate", ylabel="true-accept rate", xscale="log")
        axes.set(xlim=(least / 2, 1), ylim=(0, 1.02))
        axes.axvline(1e-3, color="gray", linewidth=0.8, linestyle=":")
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        title = f"{about}\n{metrics['accuracy']:.2%} +- {metrics['accuracy_std']:.2%} in 10 folds"
        axes.set_title(title, fontsize=9, parse_math=False)
        replace_figure(path, figure)
    finally:
        plt.close(figure)

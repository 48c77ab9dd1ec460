"""What goes wrong where images have several labels: a table of classes, the worst images."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.mistake_pictures import draw_images, short
from imagenet_jax.reports.mistakes import (
    DRAWN_IMAGES,
    LONGEST,
    TABLE,
    WORST,
    table_lines,
    write_files,
)
from imagenet_jax.reports.writers import replace_csv


@dataclasses.dataclass(frozen=True)
class LabelMistakes:
    """What was said of the N images of a split, of each of K classes, and what is there.

    Attributes:
      class_names: as the data set has them.
      titles: of the classes, for people.
      average_precision: float [K], NaN of a class that no image has.
      index: int [N], the numbers of the images in the split.
      probability: float [N, K].
      predicted: bool [N, K], which classes were said to be there.
      labels: bool [N, K].
    """

    class_names: Sequence[str]
    titles: Sequence[str]
    average_precision: np.ndarray
    index: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def images(self) -> np.ndarray:
        """How many images have each class, int [K]."""
        return self.labels.sum(0)

    @functools.cached_property
    def found(self) -> np.ndarray:
        """On how many of them it was found, int [K]."""
        return (self.labels & self.predicted).sum(0)

    @functools.cached_property
    def false(self) -> np.ndarray:
        """On how many others it was said to be, int [K]."""
        return (~self.labels & self.predicted).sum(0)

    def worst_images(self, most: int) -> np.ndarray:
        """Places of the images with the most certain mistakes, the worst first."""
        wrong = self.predicted != self.labels
        certainty = np.where(self.predicted, self.probability, 1 - self.probability)
        worst = np.where(wrong, certainty, 0).max(1, initial=0)
        order = np.argsort(-worst, kind="stable")
        return order[wrong.any(1)[order]][:most]


def write_label_mistakes(
    mistakes: LabelMistakes,
    folder: Path,
    about: str,
    name_of: Callable[[int], str],
    pixels_of: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Writes per_class.csv and most_wrong.png; arguments as of `mistakes.write_mistakes`.

    Returns:
      folder; files, the names of those that were written; num_classes, that images have; classes,
      for each of up to 20, or of the 5 worst of more: class, images, average_precision, found
      (images), false (images it was said of wrongly).
    """
    worst = mistakes.worst_images(DRAWN_IMAGES)
    makers = {
        "per_class.csv": lambda path: replace_csv(path, _class_rows(mistakes)),
        "most_wrong.png": lambda path: draw_images(
            pixels_of(mistakes.index[worst]),
            [_caption(mistakes, place, name_of) for place in worst],
            f"{about}\nmost certain mistakes; red: not there but said to be, blue: missed, "
            "green: there and found",
            path,
        ),
    }
    if not len(worst):
        del makers["most_wrong.png"]
    return {
        "folder": str(folder),
        "files": write_files(folder, makers),
        "num_classes": int((mistakes.images > 0).sum()),
        "classes": list(_shown_classes(mistakes)),
    }


def label_mistake_lines(report: Mapping[str, Any]) -> list[str]:
    """What `write_label_mistakes` found, for the terminal."""
    classes = report["classes"]
    if not classes:
        return []
    head = "class" if len(classes) == report["num_classes"] else f"{len(classes)} worst classes"
    rows = [(head, "AP", "found", "", "said of others")]
    for of_class in classes:
        images, found = of_class["images"], of_class["found"]
        rows.append(
            (
                short(of_class["class"], LONGEST),
                f"{of_class['average_precision']:.2%}",
                f"{found:,} of {images:,}",
                f"{found / images:.1%}",
                f"{of_class['false']:,}",
            )
        )
    return table_lines(rows, report)


def label_example_rows(
    mistakes: LabelMistakes, name_of: Callable[[int], str]
) -> Iterator[Sequence[Any]]:
    """A table of all images: file, labels, prediction, probability (of each predicted class),
    correct; several classes with ; between."""
    yield ("file", "label", "prediction", "probability", "correct")
    for place, index in enumerate(mistakes.index):
        there, said = mistakes.labels[place], mistakes.predicted[place]
        yield (
            name_of(int(index)),
            _joined(mistakes.class_names, there),
            _joined(mistakes.class_names, said),
            ";".join(f"{share:.6f}" for share in mistakes.probability[place][said]),
            int((there == said).all()),
        )


def _joined(names: Sequence[str], chosen: np.ndarray) -> str:
    return ";".join(names[k] for k in np.flatnonzero(chosen))


def _caption(
    mistakes: LabelMistakes, place: int, name_of: Callable[[int], str]
) -> list[tuple[str, str]]:
    """The most certain mistakes, and what is right."""
    there, said = mistakes.labels[place], mistakes.predicted[place]
    share = mistakes.probability[place]
    certainty = np.where(there != said, np.where(said, share, 1 - share), -1)
    lines = []
    for k in np.argsort(-certainty, kind="stable")[:2]:
        if there[k] != said[k]:
            text = f"{short(mistakes.titles[k], 20)} {share[k]:.1%}"
            lines.append((text, "firebrick" if said[k] else "tab:blue"))
    right = ", ".join(mistakes.titles[k] for k in np.flatnonzero(there & said))
    name = printable(name_of(int(mistakes.index[place])))
    return [*lines, (short(right or "-", 26), "darkgreen"), (name[-30:], "gray")]


def _shown_classes(mistakes: LabelMistakes) -> Iterator[dict[str, Any]]:
    there = np.flatnonzero(mistakes.images)
    if len(there) > TABLE:
        worst = np.lexsort((-mistakes.images[there], mistakes.average_precision[there]))
        there = there[worst[:WORST]]
    for k in map(int, there):
        yield {
            "class": mistakes.titles[k],
            "images": int(mistakes.images[k]),
            "average_precision": float(mistakes.average_precision[k]),
            "found": int(mistakes.found[k]),
            "false": int(mistakes.false[k]),
        }


def _class_rows(mistakes: LabelMistakes) -> Iterator[Sequence[Any]]:
    yield ("class", "images", "average precision", "precision", "recall", "found", "said of others")
    for k, name in enumerate(mistakes.class_names):
        images, found, false = (
            int(counts[k]) for counts in (mistakes.images, mistakes.found, mistakes.false)
        )
        yield (
            name,
            images,
            f"{mistakes.average_precision[k]:.6f}" if images else "",
            f"{found / (found + false):.6f}" if found + false else "",
            f"{found / images:.6f}" if images else "",
            found,
            false,
        )

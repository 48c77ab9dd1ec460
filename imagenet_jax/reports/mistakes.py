"""What goes wrong in an evaluation: tables and pictures of a classifier's mistakes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.mistake_pictures import draw_confusion, draw_images, short
from imagenet_jax.reports.writers import replace_csv
from imagenet_jax.terminal import say

_MOST_CELLS = 2000  # classes of confusion.csv, 8 MB
TABLE, WORST = 20, 5  # classes on the terminal: all of them, or the worst
LONGEST = 30  # letters of a class there
_DRAWN_CLASSES, DRAWN_IMAGES = 30, 24
_FILES = (
    "per_class.csv",
    "confusion.csv",
    "confusion.png",
    "most_wrong.png",
    "precision_recall.png",
    "thresholds.json",  # see `pair_mistakes`
    "groups.csv",
    "roc.png",
    "explained.png",  # see `inference.explanation.mistakes`
    "reconstruction.png",  # see `reconstructions`
)


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """What a classifier said of the N images of a split, and where it was wrong.

    Attributes:
      class_names: of the K classes, as the data set has them.
      titles: of the classes, for people.
      index, label, predicted, correct, probability, label_probability: [N], see `tasks.answers`.
    """

    class_names: Sequence[str]
    titles: Sequence[str]
    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    probability: np.ndarray
    label_probability: np.ndarray

    @functools.cached_property
    def images(self) -> np.ndarray:
        """How many images each class has, int64 [K]."""
        return np.bincount(self.label, minlength=len(self.class_names))

    @functools.cached_property
    def right(self) -> np.ndarray:
        """How many of them were told, int64 [K]."""
        return np.bincount(self.label[self.correct], minlength=len(self.class_names))

    @functools.cached_property
    def pairs(self) -> list[tuple[int, int, int]]:
        """Each class, another one that it was taken for, and how often, the most frequent first."""
        wrong = ~self.correct
        pairs = np.stack([self.label[wrong], self.predicted[wrong]])
        (label, predicted), count = np.unique(pairs, axis=1, return_counts=True)
        order = np.lexsort((predicted, label, -count))
        return list(
            zip(*(found[order].tolist() for found in (label, predicted, count)), strict=True)
        )

    @functools.cached_property
    def taken_for(self) -> dict[int, tuple[int, int]]:
        """{class: (the other one that it was taken for most often, how often)}."""
        found: dict[int, tuple[int, int]] = {}
        for label, predicted, count in self.pairs:
            found.setdefault(label, (predicted, count))
        return found

    def confusion(self, classes: np.ndarray) -> np.ndarray:
        """How often an image of classes[i] was taken for classes[j], int64 [n, n]."""
        place = np.full(len(self.class_names), -1)
        place[classes] = np.arange(len(classes))
        row, column = place[self.label], place[self.predicted]
        both = (row >= 0) & (column >= 0)
        counts = np.bincount(row[both] * len(classes) + column[both], minlength=len(classes) ** 2)
        return counts.reshape(len(classes), -1)

    def most_confused(self, most: int) -> np.ndarray:
        """At most so many classes, in their order: first those of the most frequent mistakes."""
        chosen: dict[int, None] = {}
        for label, predicted, _ in self.pairs:
            if len({*chosen, label, predicted}) <= most:
                chosen |= {label: None, predicted: None}
        rest = np.argsort(-self.images, kind="stable").tolist()
        there = [k for k in rest if self.images[k] or len(self.class_names) <= most]
        return np.sort([*dict.fromkeys([*chosen, *there])][:most])

    def worst_images(self, most: int) -> np.ndarray:
        """Places of the images with a wrong class of the highest probability, the worst first."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")[:most]]


def write_mistakes(
    mistakes: Mistakes,
    folder: Path,
    about: str,
    name_of: Callable[[int], str],
    pixels_of: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Any]:
    """Writes confusion.csv, per_class.csv, confusion.png and most_wrong.png.

    What cannot be written or drawn costs a warning.

    Args:
      mistakes: of the evaluation.
      folder: for the files.
      about: the evaluation, for the pictures.
      name_of: the name of the example of a number.
      pixels_of: images uint8 [n, S, S, 3] of the examples of these numbers.

    Returns:
      folder; files, the names of those that were written; num_classes; classes, for each of up to
      20, or of the 5 worst of more: class, images, correct, taken_for (None: never wrong), times.
    """
    shown = mistakes.most_confused(_DRAWN_CLASSES)
    worst = mistakes.worst_images(DRAWN_IMAGES)
    makers = {
        "per_class.csv": lambda path: replace_csv(path, _class_rows(mistakes)),
        "confusion.csv": lambda path: replace_csv(path, _confusion_rows(mistakes)),
        "confusion.png": lambda path: draw_confusion(mistakes, shown, about, path),
        "most_wrong.png": lambda path: draw_images(
            pixels_of(mistakes.index[worst]),
            [_caption(mistakes, place, name_of) for place in worst],
            f"{about}\nmost certain mistakes; red: predicted, green: true class",
            path,
        ),
    }
    if len(mistakes.class_names) > _MOST_CELLS:
        del makers["confusion.csv"]
    if not len(worst):
        del makers["most_wrong.png"]
    return {
        "folder": str(folder),
        "files": write_files(folder, makers),
        "num_classes": int((mistakes.images > 0).sum()),
        "classes": list(_shown_classes(mistakes)),
    }


def write_files(folder: Path, makers: Mapping[str, Callable[[Path], None]]) -> list[str]:
    """Calls what makes the files of a report, and removes those of an earlier one.

    Returns:
      The names of those that were written; one that could not be costs a warning.
    """
    files = []
    for name in _FILES:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            if name in makers:
                makers[name](folder / name)
                files.append(name)
        except Exception as error:  # matplotlib, its fonts, images and the disk raise anything
            say(f"warning: {folder / name} cannot be made: {error}")
    return files


def mistake_lines(report: Mapping[str, Any]) -> list[str]:
    """What `write_mistakes` found, for the terminal."""
    classes = report["classes"]
    if not classes:
        return []
    head = "class" if len(classes) == report["num_classes"] else f"{len(classes)} worst classes"
    rows = [(head, "correct", "", "most often taken for")]
    for of_class in classes:
        images, correct = of_class["images"], of_class["correct"]
        other = f"{short(of_class['taken_for'], LONGEST)} ({of_class['times']:,})"
        rows.append(
            (
                short(of_class["class"], LONGEST),
                f"{correct:,} of {images:,}",
                f"{correct / images:.1%}",
                other if of_class["times"] else "",
            )
        )
    return table_lines(rows, report)


def table_lines(rows: Sequence[Sequence[str]], report: Mapping[str, Any]) -> list[str]:
    """A table of classes, of which the first and the last column begin at the left, and the names
    of a report's files."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers, last in rows:
        cells = [number.rjust(w) for number, w in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join(("", name.ljust(widths[0]), *cells, last)).rstrip())
    if report["files"]:
        lines += [f"what goes wrong is in {report['folder']}: {', '.join(report['files'])}"]
    return lines


def example_rows(mistakes: Mistakes, name_of: Callable[[int], str]) -> Iterator[Sequence[Any]]:
    """A table of all images: name, label, prediction, its probability, correct."""
    yield ("file", "label", "prediction", "probability", "correct")
    names = mistakes.class_names
    for place, index in enumerate(mistakes.index):
        yield (
            name_of(int(index)),
            names[mistakes.label[place]],
            names[mistakes.predicted[place]],
            f"{mistakes.probability[place]:.6f}",
            int(mistakes.correct[place]),
        )


def _caption(
    mistakes: Mistakes, place: int, name_of: Callable[[int], str]
) -> list[tuple[str, str]]:
    k, other = mistakes.label[place], mistakes.predicted[place]
    predicted = f"{short(mistakes.titles[other], 20)} {mistakes.probability[place]:.1%}"
    true = f"{short(mistakes.titles[k], 20)} {mistakes.label_probability[place]:.1%}"
    name = printable(name_of(int(mistakes.index[place])))
    return [(predicted, "firebrick"), (true, "darkgreen"), (name[-30:], "gray")]


def _shown_classes(mistakes: Mistakes) -> Iterator[dict[str, Any]]:
    there = np.flatnonzero(mistakes.images)
    if len(there) > TABLE:
        share = mistakes.right[there] / mistakes.images[there]
        there = there[np.lexsort((-mistakes.images[there], share))[:WORST]]
    for k in map(int, there):
        other, times = mistakes.taken_for.get(k, (None, 0))
        yield {
            "class": mistakes.titles[k],
            "images": int(mistakes.images[k]),
            "correct": int(mistakes.right[k]),
            "taken_for": None if other is None else mistakes.titles[other],
            "times": times,
        }


def _csv_names(mistakes: Mistakes) -> list[str]:
    """With the title, where there is another one; no two alike."""
    both = zip(mistakes.class_names, mistakes.titles, strict=True)
    return [name if name == title else f"{name} {title}" for name, title in both]


def _class_rows(mistakes: Mistakes) -> Iterator[Sequence[Any]]:
    names = _csv_names(mistakes)
    yield ("class", "images", "correct", "accuracy", "most confused with")
    for k, name in enumerate(names):
        images, right = int(mistakes.images[k]), int(mistakes.right[k])
        other = names[mistakes.taken_for[k][0]] if k in mistakes.taken_for else ""
        yield (name, images, right, f"{right / images:.6f}" if images else "", other)


def _confusion_rows(mistakes: Mistakes) -> Iterator[Sequence[Any]]:
    names = _csv_names(mistakes)
    yield ("true class \\ predicted", *names)
    for name, row in zip(names, mistakes.confusion(np.arange(len(names))), strict=True):
        yield (name, *row.tolist())

"""What goes wrong in segmentation: a table of classes, and the worst images."""

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.mistake_pictures import draw_images, short
from imagenet_jax.reports.mistakes import LONGEST, TABLE, WORST, table_lines, write_files
from imagenet_jax.reports.palette import ground, overlaid
from imagenet_jax.reports.writers import replace_csv

DRAWN = 6  # images


class MapMistakes:
    """Counts of pixels of all examples, and the worst of them; see `task.Meter`.

    It adds no metrics, which come from the sums.
    """

    def __init__(self, num_classes: int):
        self.total = np.zeros((3, num_classes), np.int64)
        self.index, self.images = [], []
        self._worst: list[tuple[float, int, np.ndarray]] = []  # a heap, the best of them first

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes pixels int32 [n, 3, K]: of each class those that are right, those that are of it,
        and those that were said to be; predicted uint8 [n, S, S], and index int32 [n]."""
        pixels = observed["pixels"].astype(np.int64)
        self.total += pixels.sum(0)
        score = mean_iou(pixels)
        for row, index in enumerate(observed["index"].tolist()):
            self.index.append(index)
            self.images.append(score[row])
            item = (-score[row], -index, observed["predicted"][row])
            if not np.isnan(score[row]):
                change = heapq.heappush if len(self._worst) < DRAWN else heapq.heappushpop
                change(self._worst, item)

    def metrics(self) -> dict[str, float | int]:
        """None."""
        return {}

    def worst(self) -> list[tuple[int, float, np.ndarray]]:
        """Index, mean IoU and prediction of the images with the lowest, the worst first."""
        found = sorted(self._worst, key=lambda item: item[:2], reverse=True)
        return [(-index, -score, predicted) for score, index, predicted in found]


def class_ious(pixels: np.ndarray) -> np.ndarray:
    """Intersection over union [..., K] of pixels [..., 3, K], see `MapMistakes.add`; NaN of a class
    that is neither there nor said to be."""
    right, there, said = np.moveaxis(pixels, -2, 0)
    union = there + said - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def mean_iou(pixels: np.ndarray) -> np.ndarray:
    """The mean [...] of `class_ious` over the classes that have one; NaN without any."""
    ious = class_ious(pixels)
    known = ~np.isnan(ious)
    total = np.where(known, ious, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class and the pixels that are right, are of it, were said to be."""

    name: str
    right: int
    there: int
    said: int

    @property
    def iou(self) -> float:
        return self.right / max(self.there + self.said - self.right, 1)


def write_map_mistakes(
    meter: MapMistakes,
    class_names: Sequence[str],
    folder: Path,
    about: str,
    name_of: Callable[[int], str],
    examples: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Writes per_class.csv and most_wrong.png.

    Args:
      meter: was given all examples.
      class_names: of the K classes.
      folder: for the files.
      about: the evaluation, for the picture.
      name_of: the name of the example of a number.
      examples: image and segmentation of the examples of these numbers.

    Returns:
      folder; files, the names of those that were written; num_classes, that are there or were said
      to be; classes, for each of up to 20, or of the 5 worst of more: class, iou, pixels, found.
    """
    classes = [
        _Class(name, *map(int, column))
        for name, column in zip(class_names, meter.total.T, strict=True)
    ]
    classes = [one for one in classes if one.there or one.said]
    makers = {
        "per_class.csv": lambda path: replace_csv(path, _class_rows(classes)),
        "most_wrong.png": lambda path: _draw_worst(
            meter, ground(class_names), about, name_of, examples, path
        ),
    }
    if not meter.worst():
        del makers["most_wrong.png"]
    shown = sorted(classes, key=lambda one: one.iou)[:WORST] if len(classes) > TABLE else classes
    return {
        "folder": str(folder),
        "files": write_files(folder, makers),
        "num_classes": len(classes),
        "classes": [
            {"class": one.name, "iou": one.iou, "pixels": one.there, "found": one.right}
            for one in shown
        ],
    }


def map_mistake_lines(report: Mapping[str, Any]) -> list[str]:
    """What `write_map_mistakes` found, for the terminal."""
    classes = report["classes"]
    if not classes:
        return []
    head = "class" if len(classes) == report["num_classes"] else f"{len(classes)} worst classes"
    rows = [(head, "IoU", "found", "pixels")]
    for one in classes:
        found = f"{one['found'] / one['pixels']:.1%}" if one["pixels"] else "-"
        name = short(one["class"], LONGEST)
        rows.append((name, f"{one['iou']:.1%}", found, f"of {one['pixels']:,}"))
    return table_lines(rows, report)


def _class_rows(classes: Sequence[_Class]) -> Iterator[Sequence[Any]]:
    yield ("class", "pixels", "found", "said of others", "iou")
    for one in classes:
        yield (one.name, one.there, one.right, one.said - one.right, f"{one.iou:.6f}")


def _draw_worst(
    meter: MapMistakes,
    hidden: Sequence[int],
    about: str,
    name_of: Callable[[int], str],
    examples: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    path: Path,
) -> None:
    """Of each image a row: itself, its classes, what was said of it."""
    worst = meter.worst()
    batch = examples(np.array([index for index, *_ in worst]))
    tiles, captions = [], []
    for (index, score, predicted), image, levels in zip(
        worst, batch["image"], batch["segmentation"], strict=True
    ):
        tiles += [image, overlaid(image, levels, hidden), overlaid(image, predicted, hidden)]
        name = printable(name_of(index))[-30:]
        captions += [
            [(name, "gray")],
            [("classes", "darkgreen"), ("", "gray")],
            [(f"predicted, mIoU {score:.1%}", "firebrick"), ("", "gray")],
        ]
    title = f"{about}\nthe images with the lowest mIoU"
    draw_images(np.stack(tiles), captions, title, path)

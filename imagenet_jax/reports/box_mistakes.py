"""What goes wrong in detection: a table of classes, and the worst images."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.box_pictures import boxed
from imagenet_jax.reports.mistake_pictures import draw_images, short
from imagenet_jax.reports.mistakes import LONGEST, TABLE, WORST, table_lines, write_files
from imagenet_jax.reports.precision_recall import draw_precision_recall
from imagenet_jax.reports.writers import replace_csv

_DRAWN = 6  # images
_SURE = 0.5  # the share of the best score of all from which on a detection counts as told
_IOU = 0.5


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class: how many objects it has, in how many images, and its average precision; also that of
    small, medium and large ones, NaN where there are none."""

    name: str
    objects: int
    images: int
    ap: float
    ap50: float
    of_sizes: tuple[float, float, float]


def write_box_mistakes(
    meter: Any,
    folder: Path,
    about: str,
    name_of: Callable[[int], str],
    examples: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Writes per_class.csv, precision_recall.png and most_wrong.png.

    Args:
      meter: a `BoxMeter` that was given all examples.
      folder: for the files.
      about: the evaluation, for the picture.
      name_of: the name of the example of a number.
      examples: image of the examples of these numbers.

    Returns:
      folder; files, the names of those that were written; num_classes, that have objects; classes,
      for each of up to 20, or of the 5 worst of more: class, objects, ap, ap50.
    """
    classes = _classes(meter)
    worst = worst_images(meter)
    makers = {
        "per_class.csv": lambda path: replace_csv(path, _rows(classes)),
        "precision_recall.png": lambda path: draw_precision_recall(meter.main, about, path),
        "most_wrong.png": lambda path: _draw_worst(meter, worst, about, name_of, examples, path),
    }
    if not worst:
        del makers["most_wrong.png"]
    if not classes:
        del makers["precision_recall.png"]
    shown = sorted(classes, key=lambda one: one.ap)[:WORST] if len(classes) > TABLE else classes
    return {
        "folder": str(folder),
        "files": write_files(folder, makers),
        "num_classes": len(classes),
        "classes": [
            {"class": one.name, "objects": one.objects, "ap": one.ap, "ap50": one.ap50}
            for one in shown
        ],
    }


def box_mistake_lines(report: Mapping[str, Any]) -> list[str]:
    """What `write_box_mistakes` found, for the terminal."""
    classes = report["classes"]
    if not classes:
        return []
    head = "class" if len(classes) == report["num_classes"] else f"{len(classes)} worst classes"
    rows = [(head, "AP", "AP50", "objects")]
    for one in classes:
        name = short(one["class"], LONGEST)
        rows.append((name, f"{one['ap']:.1%}", f"{one['ap50']:.1%}", f"{one['objects']:,}"))
    return table_lines(rows, report)


def _classes(meter: Any) -> list[_Class]:
    """Those that have objects which count."""
    counts, images = (np.zeros(len(meter.class_names), np.int64) for _ in range(2))
    for one in meter.images():
        labels = one.classes[~one.ignored]
        counts += np.bincount(labels, minlength=len(counts))
        images[np.unique(labels)] += 1
    return [
        _Class(name, int(count), int(of), float(ap), float(ap50), tuple(map(float, of_sizes)))
        for name, count, of, (ap, ap50, *of_sizes) in zip(
            meter.class_names, counts, images, meter.class_precisions(), strict=True
        )
        if count
    ]


def worst_images(meter: Any) -> list[tuple[int, int, int]]:
    """Number, objects that were missed and boxes that are wrong of up to six images, the most
    first; none without a mistake.

    Only boxes count whose score is at least half of the best one of all images.
    """
    images = meter.images()
    sure = sure_score(images)
    found = []
    for one in images:
        missed, wrong = mistakes_of(one, sure)
        if missed or wrong:
            found.append((one.index, missed, len(wrong)))
    found.sort(key=lambda item: (-item[1] - item[2], item[0]))
    return found[:_DRAWN]


def sure_score(images: Sequence[Any]) -> float:
    """The score from which on a box counts as told."""
    return _SURE * max((float(one.scores.max(initial=0)) for one in images), default=0)


def mistakes_of(one: Any, sure: float) -> tuple[int, list[int]]:
    """How many objects of an image were missed, and the numbers of the boxes that are wrong."""
    free, wrong = [True] * len(one.classes), []
    for number in np.flatnonzero(one.scores >= sure).tolist():
        box, label = one.found[number], one.labels[number]
        overlaps = np.where(one.classes == label, ious(box, one.boxes), 0).tolist()
        hits = [k for k, iou in enumerate(overlaps) if iou >= _IOU and (free[k] or one.ignored[k])]
        if hits:
            free[max(hits, key=overlaps.__getitem__)] = False
        else:
            wrong.append(number)
    missed = sum(is_free and not i for is_free, i in zip(free, one.ignored.tolist(), strict=True))
    return missed, wrong


def ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [n] of a box [4] and boxes [n, 4]; 0 of no area."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.maximum(sides, 0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - common
    return common / np.where(union > 0, union, 1)


def _rows(classes: Sequence[_Class]) -> Iterator[Sequence[Any]]:
    yield ("class", "objects", "images", "ap", "ap50", "ap_small", "ap_medium", "ap_large")
    for one in classes:
        of_sizes = ("" if np.isnan(ap) else f"{ap:.6f}" for ap in one.of_sizes)
        yield (one.name, one.objects, one.images, f"{one.ap:.6f}", f"{one.ap50:.6f}", *of_sizes)


def _draw_worst(
    meter: Any,
    worst: Sequence[tuple[int, int, int]],
    about: str,
    name_of: Callable[[int], str],
    examples: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    path: Path,
) -> None:
    """Of each image three tiles: itself, its objects, what was told of it."""
    found = {one.index: one for one in meter.images()}
    sure = sure_score(list(found.values()))
    images = examples(np.array([index for index, *_ in worst]))["image"]
    tiles, captions = [], []
    for (index, missed, wrong), image in zip(worst, images, strict=True):
        one = found[index]
        told = one.scores >= sure
        objects = meter.preprocess.place_boxes(one.boxes, one.size)
        boxes = meter.preprocess.place_boxes(one.found[told], one.size)
        tiles += [image, boxed(image, objects, one.classes), boxed(image, boxes, one.labels[told])]
        name = printable(name_of(index))[-30:]
        captions += [
            [(name, "gray")],
            [(f"{len(one.boxes)} objects", "darkgreen"), ("", "gray")],
            [(f"{missed} missed, {wrong} wrong", "firebrick"), ("", "gray")],
        ]
    draw_images(np.stack(tiles), captions, f"{about}\nthe images with the most mistakes", path)

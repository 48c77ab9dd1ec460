"""Pascal VOC's average precision, of its development kit.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from imagenet_jax.reports.box_mistakes import ious

_IOU = 0.5


def voc_average_precision(images: Sequence[Any], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The average precision of each class since 2010, and in the form of 2007, [K] each.

    A detection is right if its IoU with the object that it overlaps with most is at least 0.5 and
    no better detection has that object. Those of ignored objects count for nothing.

    Args:
      images: `box_meter.Image`s.
      num_classes: K.

    Returns:
      NaN of a class without objects.
    """
    since, before = np.full(num_classes, np.nan), np.full(num_classes, np.nan)
    for label in range(num_classes):
        count, scores, right = 0, [], []
        for one in images:
            mine, told = one.classes == label, one.labels == label
            count += int((~one.ignored[mine]).sum())
            for score, is_right in _judged(one, mine, told):
                scores.append(score)
                right.append(is_right)
        if not count:
            continue
        order = np.argsort(-np.array(scores), kind="stable")
        hits = np.cumsum(np.array(right, bool)[order])
        recall, precision = hits / count, hits / np.arange(1, len(hits) + 1)
        since[label], before[label] = _area(recall, precision), _eleven_points(recall, precision)
    return since, before


def _judged(one: Any, mine: np.ndarray, told: np.ndarray) -> list[tuple[float, bool]]:
    """The score of each detection of a class, and whether it is right; not those of ignored
    objects."""
    boxes, ignored = one.boxes[mine], one.ignored[mine]
    taken, judged = np.zeros(len(boxes), bool), []
    order = np.argsort(-one.scores[told], kind="stable")
    for box, score in zip(one.found[told][order], one.scores[told][order], strict=True):
        overlap = ious(box, boxes)
        best = int(overlap.argmax()) if len(boxes) else 0
        if not len(boxes) or overlap[best] < _IOU:
            judged.append((score, False))
        elif not ignored[best]:
            judged.append((score, not taken[best]))
            taken[best] = True
    return judged


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Below the curve of the highest precision at this recall or a higher one."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * highest).sum())


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean over recalls of 0, 0.1 to 1 of the highest precision at each or a higher one."""
    points = [precision[recall >= level].max(initial=0) for level in np.linspace(0, 1, 11)]
    return float(np.mean(points))

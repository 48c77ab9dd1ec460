"""Do two models tell the same boxes? Before suppression as after it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import numpy as np

from imagenet_jax.models.detection.detections import Detections
from imagenet_jax.models.detection.suppression import RawBoxes, Suppression

_SAME, _TOLD = 0.8, 0.1  # IoU of one box with its like; score from which a box has to have one
_LEAST = 0.5  # share of a box's score that its like has before suppression


def other_boxes(
    part: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], near: float
) -> np.ndarray:
    """Whether an image has a box with a score above 0.1 that the other model does not tell: of the
    same class, with an IoU of 0.8 or more, or as near as rounding leaves it; bool [B].

    Args:
      part: "" or the name of one of several tasks.
      ours, theirs: with boxes [B, D, 4], classes and scores [B, D].
      near: over the largest coordinate.
    """

    def lacks(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
        boxes, classes, _ = other
        return _lacks(one, boxes, lambda label, _: classes == label, near)

    both = [_arrays(outputs, part, ("boxes", "classes", "scores")) for outputs in (ours, theirs)]
    return _either(lacks, *both)


def other_raw_boxes(
    part: str,
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    rule: Suppression,
    near: float,
) -> np.ndarray:
    """As `other_boxes`, of raw_boxes [B, A, 4] and raw_scores [B, A, K]: whether of the boxes that
    `rule` leaves of one model's there is one that the other does not have before suppression, with
    at least half of the score. Which of several such boxes suppresses the others hangs on less than
    rounding."""

    def lacks(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
        found = jax.device_get(_told(rule, RawBoxes(*(array[None] for array in one))))
        told = [array[0] for array in (found.boxes, found.classes, found.scores)]
        boxes, scores = other
        return _lacks(told, boxes, lambda label, score: scores[:, label] >= _LEAST * score, near)

    both = [_arrays(outputs, part, RawBoxes._fields) for outputs in (ours, theirs)]
    return _either(lacks, *both)


@partial(jax.jit, static_argnums=0)
def _told(rule: Suppression, raw: RawBoxes) -> Detections:
    return rule(raw)


def _arrays(outputs: Mapping[str, np.ndarray], part: str, names: Sequence[str]) -> list[np.ndarray]:
    return [outputs[f"{part}/{name}" if part else name] for name in names]


def _either(
    lacks: Callable[..., bool], ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> np.ndarray:
    """Whether of an image either lacks what the other has, bool [B]."""
    rows = zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True)
    return np.array([lacks(one, other) or lacks(other, one) for one, other in rows], bool)


def _lacks(
    told: Sequence[np.ndarray],
    boxes: np.ndarray,
    fits: Callable[[int, float], np.ndarray],
    near: float,
) -> bool:
    """Whether there is no like of one of the boxes, classes and scores that are told.

    Args:
      told: [D, 4], [D] and [D].
      boxes: [n, 4], which are looked at.
      fits: class and score -> which of `boxes` may be the like of such a box, bool [n].
      near: see `other_boxes`; of a box as thin as a pixel the IoU hangs on rounding.
    """
    near *= max(array.max(initial=0) for array in (told[0], boxes))
    for box, label, score in zip(*told, strict=True):
        if score <= _TOLD:
            continue
        low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
        common = np.maximum(high - low, 0).prod(1)
        union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - common
        same = (common >= _SAME * union) | (np.abs(boxes - box).max(1) <= near)
        if not (same & fits(label, score)).any():
            return True
    return False

"""Boxes before suppression, and the rule by which some of them are told in the end.

Between the two a program can be cut: what is before is of operations that every format has.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.detection.detections import (
    Candidates,
    Choice,
    Detections,
    best_of_map,
    chosen,
)
from imagenet_jax.models.detection.matching import of_matched
from imagenet_jax.models.detection.method import Method, Outputs


class RawBoxes(NamedTuple):
    """All that a network says of images, nothing left out.

    Attributes:
      raw_boxes: float32 [B, A, 4] in pixels of the input, within it.
      raw_scores: of each class, float32 [B, A, K] of 0 to 1.
    """

    raw_boxes: jax.Array
    raw_scores: jax.Array


class SuppressesLast(Method):
    """A method that says all boxes at once, and has no suppression but at its end."""

    # Whether a box competes with its best class alone, not with each.
    one_class: ClassVar[bool] = False
    # Whether the best boxes of all maps together compete, not those of each.
    joins_maps: ClassVar[bool] = False

    @abc.abstractmethod
    def raw(self, outputs: Outputs, size: int) -> RawBoxes:
        """All boxes of images of size x size pixels, in the order of `anchors`."""

    def groups(self, size: int) -> list[int]:
        """How many of these boxes there are of each map; the best ones of each compete."""
        counts = [len(level) for level in self.anchors(size)]
        return [sum(counts)] if self.joins_maps else counts

    def candidates(self, outputs: Outputs, size: int, choice: Choice) -> list[Candidates]:
        return _best(self.raw(outputs, size), self.groups(size), choice, self.one_class)


@dataclasses.dataclass(frozen=True)
class Suppression:
    """What is left to do with `RawBoxes`. Static: no arrays.

    Attributes:
      choice: of the detector.
      groups: numbers of boxes, in their order: of each map, of several views of those of each.
      one_class: see `SuppressesLast`.
      most: of the candidates of all groups so many compete, the best ones.
    """

    choice: Choice
    groups: tuple[int, ...]
    one_class: bool
    most: int

    @classmethod
    def of_views(
        cls, method: SuppressesLast, sides: Sequence[int], choice: Choice
    ) -> "Suppression":
        """That of views of an image, given their heights and widths in pixels."""
        views = [method.groups(side) for side in sides]
        each = 1 if method.one_class else method.num_classes
        # No more than of one view: memory for suppression grows with the square of their number.
        most = max(sum(min(choice.candidates, each * n) for n in counts) for counts in views)
        return cls(choice, tuple(n for counts in views for n in counts), method.one_class, most)

    def __call__(self, raw: RawBoxes) -> Detections:
        return chosen(_best(raw, self.groups, self.choice, self.one_class), self.choice, self.most)

    def facts(self) -> dict[str, Any]:
        """In words and numbers, as docs/deploy.md explains them."""
        return {
            "boxes_of_groups": list(self.groups),
            "classes_of_a_box": "best" if self.one_class else "all",
            "candidates_of_a_group": self.choice.candidates,
            "candidates": self.most,
            "score_threshold": self.choice.score,
            "iou_threshold": self.choice.iou,
            "boxes_of_an_image": self.choice.most,
        }


def _best(
    raw: RawBoxes, groups: Sequence[int], choice: Choice, one_class: bool
) -> list[Candidates]:
    """The best boxes of each group."""
    ends, found = np.cumsum(groups)[:-1].tolist(), []
    parts = (jnp.split(array, ends, 1) for array in raw)
    for boxes, scores in zip(*parts, strict=True):
        if one_class:
            best = scores.argmax(-1).astype(jnp.int32)
            count = min(choice.candidates, scores.shape[1])
            most, place = jax.lax.top_k(scores.max(-1), count)
            classes = of_matched(best, place)
        else:
            most, place, classes = best_of_map(scores, choice)
        found.append(Candidates(of_matched(boxes, place), most, classes))
    return found

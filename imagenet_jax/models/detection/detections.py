"""What a detector says in the end: a fixed number of boxes of each image."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from imagenet_jax.models.detection.nms import suppress

NOTHING = -1.0  # the score in a row without a box
_FEW = 512  # boxes of an image above the threshold, up to which suppression looks at these alone


class Detections(NamedTuple):
    """The boxes of images, the best ones first.

    Attributes:
      boxes: float32 [B, D, 4] in pixels of the input, within it.
      scores: float32 [B, D] of 0 to 1; NOTHING behind the last box.
      classes: int32 [B, D].
      masks: what the share of each part of a box is that the thing fills, float32 [B, D, 28, 28];
        None of detectors without them.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    masks: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of all boxes are told.

    Attributes:
      score: a box needs a higher one.
      iou: of a class, a box that overlaps more with a better one is left out; 1: none is.
      candidates: boxes of each map that are looked at, the best ones.
      most: boxes of an image.
    """

    score: float
    iou: float
    candidates: int
    most: int


class Candidates(NamedTuple):
    """Boxes [B, n, 4] of a map, with scores and classes [B, n]."""

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array


def best_of_map(scores: jax.Array, choice: Choice) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best boxes of a map: scores, numbers of their anchors and their classes [B, n].

    Args:
      scores: of each anchor and class, float32 [B, A, K].
      choice: of which.
    """
    count, classes = min(choice.candidates, scores[0].size), scores.shape[2]
    found, place = jax.lax.top_k(scores.reshape(scores.shape[0], -1), count)
    return found, place // classes, place % classes


def chosen(levels: Sequence[Candidates], choice: Choice, most: int = 0) -> Detections:
    """The boxes that are told, of the candidates of all maps; of more than `most` the best ones
    compete, 0 being all."""
    boxes, scores, classes = (jnp.concatenate(part, 1) for part in zip(*levels, strict=True))
    of_images = jax.vmap(partial(_of_image, choice=choice))
    if choice.iou >= 1:
        return of_images(boxes, scores, classes)
    order = jnp.argsort(-scores, axis=1, stable=True)[:, : most or None]
    sorted_ones = tuple(
        jax.vmap(lambda array, at: array[at])(array, order) for array in (boxes, scores, classes)
    )
    if order.shape[1] <= _FEW:
        return of_images(*sorted_ones)
    # The work grows with the square of their number, and photos have few.
    most = (scores > choice.score).sum(1).max()
    first = tuple(array[:, :_FEW] for array in sorted_ones)
    return jax.lax.cond(most <= _FEW, lambda: of_images(*first), lambda: of_images(*sorted_ones))


def _of_image(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array, choice: Choice
) -> Detections:
    """Of boxes [n, 4] of an image, the best ones first where some suppress others."""
    kept = scores > choice.score
    if choice.iou < 1:
        kept = suppress(boxes, classes, kept, choice.iou)
    count = min(choice.most, len(boxes))
    best, place = jax.lax.top_k(jnp.where(kept, scores, NOTHING), count)
    there = best > NOTHING
    found = Detections(
        jnp.where(there[:, None], boxes[place], 0), best, jnp.where(there, classes[place], 0)
    )
    rest = choice.most - count
    fill = Detections(0.0, NOTHING, 0)
    return jax.tree.map(
        lambda part, value: jnp.pad(
            part, [(0, rest), *[(0, 0)] * (part.ndim - 1)], constant_values=value
        ),
        found,
        fill,
    )

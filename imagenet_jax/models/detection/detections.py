"""What a detector says in the end: a fixed number of boxes of each image."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from imagenet_jax.models.detection.matching import of_matched
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
    found = Candidates(*(jnp.concatenate(part, 1) for part in zip(*levels, strict=True)))
    if choice.iou >= 1:
        return _told(found, choice)
    order = jnp.argsort(-found.scores, axis=1, stable=True)[:, : most or None]
    found = jax.tree.map(lambda part: of_matched(part, order), found)
    if order.shape[1] <= _FEW:
        return _told(found, choice)
    # The work grows with the square of their number, and photos have few.
    most = (found.scores > choice.score).sum(1).max()
    first = jax.tree.map(lambda part: part[:, :_FEW], found)
    return jax.lax.cond(most <= _FEW, lambda: _told(first, choice), lambda: _told(found, choice))


def _told(found: Candidates, choice: Choice) -> Detections:
    """Of candidates, the best ones first where some suppress others."""
    boxes, scores, classes = found
    kept = scores > choice.score
    if choice.iou < 1:
        kept = jax.vmap(partial(suppress, threshold=choice.iou))(boxes, classes, kept)
    count = min(choice.most, scores.shape[1])
    best, place = jax.lax.top_k(jnp.where(kept, scores, NOTHING), count)
    there, boxes, classes = best > NOTHING, of_matched(boxes, place), of_matched(classes, place)
    told = Detections(
        jnp.where(there[..., None], boxes, jnp.zeros_like(boxes)),
        best,
        jnp.where(there, classes, jnp.zeros_like(classes)),
    )
    rest = choice.most - count
    fill = Detections(0.0, NOTHING, 0)
    return jax.tree.map(
        lambda part, value: jnp.pad(
            part, [(0, 0), (0, rest), *[(0, 0)] * (part.ndim - 2)], constant_values=value
        ),
        told,
        fill,
    )

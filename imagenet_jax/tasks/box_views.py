"""What a detector says of the views of an image, together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.errors import ExportError
from imagenet_jax.models.detection import Detections
from imagenet_jax.models.detection.detections import Choice, chosen
from imagenet_jax.models.detection.method import Method
from imagenet_jax.models.detection.suppression import RawBoxes, SuppressesLast, Suppression
from imagenet_jax.tasks.views import view_side, views_of


def found_in_views(
    method: Method,
    apply: Callable[..., Any],
    images: jax.Array,
    config: ml_collections.ConfigDict,
    choice: Choice,
) -> Detections:
    """The boxes that are told; those of all views compete.

    Args:
      method: of the detector.
      apply: the network.
      images: float32 [B, S, S, 3].
      config: of the run.
      choice: which boxes are told.
    """
    found = []
    for view in views_of(images, config):
        levels = method.candidates(apply(view.images), view.images.shape[2], choice)
        found.append([one._replace(boxes=view.boxes_back(one.boxes)) for one in levels])
    # No more than of one view: memory for suppression grows with the square of their number.
    most = max(sum(one.scores.shape[1] for one in levels) for levels in found)
    return chosen([one for levels in found for one in levels], choice, most)


def raw_of_views(
    method: SuppressesLast,
    apply: Callable[..., Any],
    images: jax.Array,
    config: ml_collections.ConfigDict,
) -> RawBoxes:
    """All boxes, those of one view after those of another; arguments as of `found_in_views`."""
    found = []
    for view in views_of(images, config):
        raw = method.raw(apply(view.images), view.images.shape[2])
        found.append(raw._replace(raw_boxes=view.boxes_back(raw.raw_boxes)))
    return RawBoxes(*(jnp.concatenate(parts, 1) for parts in zip(*found, strict=True)))


def suppression_of(
    method: Method, config: ml_collections.ConfigDict, choice: Choice
) -> Suppression | None:
    """What `raw_of_views` leaves to be done, or None of a method that suppresses nothing.

    Raises:
      ExportError: for detectors whose network suppresses boxes itself.
    """
    if not isinstance(method, SuppressesLast):
        raise ExportError(
            f"config.model.head = {config.model.head!r} has non-maximum suppression amid its "
            "network, of proposals, which ONNX and LiteRT cannot hold; --format=stablehlo and "
            "savedmodel hold it whole"
        )
    if min(choice.iou, method.choice.iou) >= 1:
        return None
    mirrored = 1 + bool(config.eval.tta)
    sides = [view_side(config.data.image_size, scale) for scale in config.eval.scales]
    sides = [side for side in sides for _ in range(mirrored)]
    return Suppression.of_views(method, sides, choice)

"""Objects as TFDS stores them, which `box_records` reads again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.sources.objects import Objects, in_pixels

OBJECTS = "objects"


def object_features(class_names: Sequence[str]) -> tfds.features.Sequence:
    """The features of the objects of an image."""
    return tfds.features.Sequence(
        {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "area": tfds.features.Scalar(np.float32),
            "is_crowd": tfds.features.Scalar(np.bool_),
            "is_difficult": tfds.features.Scalar(np.bool_),
        }
    )


def stored_objects(objects: Objects, shape: tuple[int, int], scale: float) -> list[dict[str, Any]]:
    """What `object_features` have of the objects of an image.

    Args:
      objects: of the image.
      shape: its height and width in pixels.
      scale: by which its sides are multiplied before it is stored; areas are those afterwards.

    Raises:
      ValueError: for boxes of an image of another size.
    """
    height, width = shape
    boxes = in_pixels(objects, shape)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    areas = np.where(np.isnan(objects.area), own, objects.area) * scale**2
    shares = np.clip(boxes / [width, height, width, height], 0, 1)
    return [
        {
            "bbox": tfds.features.BBox(*(shares[row][[1, 0, 3, 2]].tolist())),
            "label": int(objects.labels[row]),
            "area": float(areas[row]),
            "is_crowd": bool(objects.crowd[row]),
            "is_difficult": bool(objects.ignored[row] and not objects.crowd[row]),
        }
        for row in range(len(objects.labels))
    ]

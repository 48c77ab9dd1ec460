"""Objects as TFDS stores them, which `box_records` reads again."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from pycocotools import mask as coco_masks

from imagenet_jax.data.sources.box_records import OUTLINE
from imagenet_jax.data.sources.objects import Objects, in_pixels, run_lengths_of


def object_features(class_names: Sequence[str], masks: bool = False) -> tfds.features.Sequence:
    """The features of the objects of an image; with masks, the outline is COCO's run lengths."""
    return tfds.features.Sequence(
        {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "area": tfds.features.Scalar(np.float32),
            "is_crowd": tfds.features.Scalar(np.bool_),
            "is_difficult": tfds.features.Scalar(np.bool_),
            **({OUTLINE: tfds.features.Text()} if masks else {}),
        }
    )


def stored_objects(
    objects: Objects, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[list[dict[str, Any]], tuple[float, ...]]:
    """What `object_features` have of the objects of an image, and their areas.

    Args:
      objects: of the image.
      shape: its height and width in pixels.
      size: those of what is stored of it; areas are in its pixels.

    Raises:
      ValueError: for boxes of an image of another size.
    """
    height, width = shape
    boxes = in_pixels(objects, shape)
    own = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    scale = size[0] * size[1] / (height * width)
    outlines = [{}] * len(own)
    if objects.outlines is not None:
        lengths = [_resized(one, size) for one in run_lengths_of(objects, shape)]
        outlines = [{OUTLINE: one["counts"]} for one in lengths]
    areas = np.where(np.isnan(objects.area), own, objects.area) * scale
    # What has none is measured where it is read: by boxes, or by masks.
    stored = objects.area * scale if objects.outlines is not None else areas
    shares = np.clip(boxes / [width, height, width, height], 0, 1)
    things = [
        {
            "bbox": tfds.features.BBox(*(shares[row][[1, 0, 3, 2]].tolist())),
            "label": int(objects.labels[row]),
            "area": float(stored[row]),
            "is_crowd": bool(objects.crowd[row]),
            "is_difficult": bool(objects.ignored[row] and not objects.crowd[row]),
            **outlines[row],
        }
        for row in range(len(objects.labels))
    ]
    return things, tuple(areas.tolist())


def _resized(lengths: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    """Run lengths of an image of this height and width: the pixels that are filled by half, or
    where there is none those that are filled most."""
    if tuple(lengths["size"]) == tuple(size):
        return lengths
    mask = cv2.resize(coco_masks.decode(lengths) * 255, size[::-1], interpolation=cv2.INTER_AREA)
    return coco_masks.encode(np.asfortranarray(mask >= min(128, max(mask.max(), 1)), np.uint8))

"""Masks of boxes as pixels of a photo."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_masks

_LEAST = 0.5  # of a pixel has to be filled


def pasted(masks: np.ndarray, boxes: np.ndarray, shape: Sequence[int]) -> list[dict[str, Any]]:
    """The pixels of each thing as COCO's run lengths, {"size": [height, width], "counts": bytes}.

    Pixels are torchvision's: a mask gets an edge of nothing, and covers whole pixels.

    Args:
      masks: shares of the parts of each box, float [n, S, S] of 0 to 1.
      boxes: in pixels of the photo, [n, 4].
      shape: of the photo, height and width.
    """
    found = []
    for mask, box in zip(masks, boxes, strict=True):
        canvas = np.zeros(tuple(shape), np.uint8, order="F")
        _paste(np.pad(np.float32(mask), 1), box, canvas)
        found.append(coco_masks.encode(canvas))
    return found


def _paste(mask: np.ndarray, box: np.ndarray, canvas: np.ndarray) -> None:
    """Sets the pixels that a mask with its edge fills."""
    side = len(mask)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * side / (side - 2)
    left, top = np.trunc(centre - half).astype(int).tolist()
    right, bottom = np.trunc(centre + half).astype(int).tolist()
    wide, high = max(right - left + 1, 1), max(bottom - top + 1, 1)
    pixels = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_LINEAR) > _LEAST
    height, width = canvas.shape
    above, before = max(-top, 0), max(-left, 0)
    seen = pixels[above : max(height - top, 0), before : max(width - left, 0)]
    top, left = max(top, 0), max(left, 0)
    canvas[top : top + seen.shape[0], left : left + seen.shape[1]] = seen


def mask_area(mask: Mapping[str, Any]) -> float:
    """Pixels of COCO's run lengths."""
    return float(coco_masks.area(mask))

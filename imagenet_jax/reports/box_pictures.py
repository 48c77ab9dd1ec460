"""Boxes drawn into images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagenet_jax.printable import printable
from imagenet_jax.reports.palette import voc_palette

_NAMES = 20  # letters of a class
_SHOWN = 30  # boxes of a photo that have their names beside them


def colour(label: int) -> tuple[int, int, int]:
    """Of a class: VOC's, without its black."""
    return tuple(voc_palette()[1 + label % 254].tolist())


def boxed(image: np.ndarray, boxes: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """An image uint8 [H, W, 3] with frames of a pixel around boxes [n, 4], coloured by labels."""
    import cv2

    picture = np.array(image)  # a copy, which OpenCV draws into
    for box, label in zip(np.round(boxes).astype(int).tolist(), labels, strict=True):
        left, top, right, bottom = box
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour(int(label)), 1)
    return picture


def draw_boxes(axes: Any, things: Sequence[Mapping[str, Any]], scale: np.ndarray) -> None:
    """Draws what `Detection.answer` says into axes of matplotlib, the best ones on top.

    Args:
      axes: with the picture.
      things: class_name, score and box of each.
      scale: of the sides of boxes, [4].
    """
    from matplotlib.patches import Rectangle

    for number, one in reversed(list(enumerate(things))):
        left, top, right, bottom = np.array(one["box"]) * scale
        edge = np.array(colour(one["label"])) / 255
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, ec=edge, lw=1.2)
        axes.add_patch(frame)
        if number < _SHOWN:
            name = printable(one["class_name"])[:_NAMES]
            axes.text(
                left,
                top,
                f"{name} {one['score']:.0%}",
                fontsize=5,
                color="white",
                va="bottom",
                clip_on=True,
                parse_math=False,
                bbox={"facecolor": edge, "edgecolor": "none", "pad": 0.6},
            )

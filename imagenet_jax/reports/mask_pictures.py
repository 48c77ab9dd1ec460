"""Masks drawn into images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from imagenet_jax.reports.box_pictures import colour

_OPACITY = 0.5
_MOST = 255  # objects that a map of bytes can number


def painted(picture: Image.Image, things: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A picture of a photo, of another size perhaps, with things in the colours of their classes.

    Args:
      picture: the photo.
      things: label and mask of each, the best ones first.
    """
    pixels = np.array(picture, np.float32)
    for one in reversed(things):
        mask = Image.fromarray(coco_masks.decode(one["mask"]))
        inside = np.array(mask.resize(picture.size, Image.Resampling.NEAREST), bool)
        shade = np.array(colour(one["label"]), np.float32)
        pixels[inside] = (1 - _OPACITY) * pixels[inside] + _OPACITY * shade[None]
    return Image.fromarray(np.uint8(pixels))


def instance_map(things: Sequence[Mapping[str, Any]], size: Sequence[int]) -> np.ndarray:
    """uint8 [H, W]: 0, or the number of the best thing that fills a pixel, the first being 1; at
    most 255 are there."""
    levels = np.zeros(tuple(size), np.uint8)
    for number, one in reversed(list(enumerate(things[:_MOST], 1))):
        levels[coco_masks.decode(one["mask"]) > 0] = number
    return levels

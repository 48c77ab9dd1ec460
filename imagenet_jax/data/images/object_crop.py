"""SSD's random crop (Liu et al. 2016), which is chosen by the objects in an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imagenet_jax.data.images.boxes import uniforms

_MOST = 4.0  # sides of a ground over those of the image on it
_LEAST = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # overlaps of an object; 1: no crop
_SIDES, _RATIOS = (0.3, 1.0), (0.5, 2.0)  # of a crop, relative to the ground's
_ROUNDS, _TRIALS, _DRAWS = 8, 40, 5


class Placed(NamedTuple):
    """A part of an image, and where in the network's input it comes.

    Attributes:
      box: top, left, height and width of the part, in pixels of the image.
      place: those of what it is resized to, in pixels of the input; the rest is ground.
      seen: which objects have their centre in the crop, bool [n]; the others do not count.
    """

    box: tuple[int, int, int, int]
    place: tuple[int, int, int, int]
    seen: np.ndarray


def ssd_crop(
    shape: Sequence[int], objects: np.ndarray, size: int, seed: int, epoch: int, index: int
) -> Placed:
    """torchvision's RandomZoomOut and RandomIoUCrop, one after the other.

    Half of the images lie somewhere on a ground up to four times as large. Of the whole a part is
    cut out that has the centre of an object, and overlaps with one at least as much as chance says;
    where none is found in 8 rounds of 40 trials (torchvision: as many rounds as it takes), nothing
    is cut off.

    Args:
      shape: height and width of the image.
      objects: their boxes, float [n, 4], in its pixels.
      size: height and width of the input.
      seed, epoch, index: of the run, and of the example; the crop depends on nothing else.
    """
    count = 4 + _ROUNDS * (1 + _TRIALS * _DRAWS)
    draws = uniforms(seed, np.array([epoch]), np.array([index]), count)[0]
    ground, shift = np.array(shape, float), np.zeros(2)
    if draws[0] < 0.5:
        ground = ground * (1 + (_MOST - 1) * draws[1])
        shift = np.floor(draws[2:4] * (ground - shape))
    moved = objects + np.tile(shift[::-1], 2)
    crop = _crop(ground, moved, draws[4:].reshape(_ROUNDS, -1))
    seen = _centres_in(moved, crop)
    return Placed(*_where(np.array(shape, float), shift, crop, size), seen)


def _crop(ground: np.ndarray, objects: np.ndarray, rounds: np.ndarray) -> np.ndarray:
    """Top, left, bottom and right of what is cut out of a ground of this height and width."""
    whole = np.array([0.0, 0.0, *ground])
    if not len(objects):
        return whole
    for draws in rounds:
        least = _LEAST[int(draws[0] * len(_LEAST))]
        if least >= 1:
            return whole
        for one in draws[1:].reshape(_TRIALS, _DRAWS):
            sides = ground * (_SIDES[0] + (_SIDES[1] - _SIDES[0]) * one[:2])
            if not _RATIOS[0] <= sides[1] / sides[0] <= _RATIOS[1]:
                continue
            low = np.floor(one[2:4] * (ground - sides))
            crop = np.concatenate([low, np.minimum(low + np.maximum(np.floor(sides), 1), ground)])
            seen = _centres_in(objects, crop)
            if seen.any() and _overlaps(objects[seen], crop).max() >= least:
                return crop
    return whole


def _centres_in(objects: np.ndarray, crop: np.ndarray) -> np.ndarray:
    x, y = (objects[:, 0] + objects[:, 2]) / 2, (objects[:, 1] + objects[:, 3]) / 2
    top, left, bottom, right = crop
    return (left < x) & (x < right) & (top < y) & (y < bottom)


def _overlaps(objects: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """IoU of the crop with each object."""
    box = crop[[1, 0, 3, 2]]
    sides = np.minimum(objects[:, 2:], box[2:]) - np.maximum(objects[:, :2], box[:2])
    common = np.maximum(sides, 0).prod(1)
    areas = (objects[:, 2:] - objects[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return common / (areas - common)


def _where(
    shape: np.ndarray, shift: np.ndarray, crop: np.ndarray, size: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """The part of the image that is in the crop, in whole pixels, and where it comes."""
    low = np.clip(np.floor(crop[:2] - shift), 0, shape - 1)
    high = np.clip(np.ceil(crop[2:] - shift), low + 1, shape)
    scale = size / (crop[2:] - crop[:2])
    first = np.round((low + shift - crop[:2]) * scale).astype(int)
    sides = np.maximum(np.round((high - low) * scale), 1).astype(int)
    box = (*low.astype(int).tolist(), *(high - low).astype(int).tolist())
    return box, (*first.tolist(), *sides.tolist())

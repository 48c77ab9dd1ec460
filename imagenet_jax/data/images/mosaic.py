"""Mosaics: parts of four training images in one, as in YOLOv4 (Bochkovskiy et al. 2020)."""

from collections.abc import Mapping, Sequence

import numpy as np

from imagenet_jax.data.images.object_rows import Example, in_window

PARTS = 4
DRAWS = 2 + 2 * PARTS
_CENTRE = (0.25, 0.75)  # range of where the four meet, as a share of the side, as in YOLOX


def mosaic(parts: Sequence[Example], uniform: Sequence[float]) -> Example:
    """One example of four: each gives a part of its image, as large as its place.

    Args:
      parts: of the upper left, upper right, lower left and lower right; images and maps
        [S, S, ...]. Where the first has objects, so have all.
      uniform: `DRAWS` random numbers in [0, 1): across and down, where the parts meet; and from
        where in each image its part is.
    """
    size = len(parts[0].pixels["image"])
    low, high = _CENTRE
    x, y = (int(size * (low + (high - low) * number)) for number in uniform[:2])
    windows = ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size))
    pixels = {name: np.empty_like(array) for name, array in parts[0].pixels.items()}
    found = []
    for number, (part, window) in enumerate(zip(parts, windows, strict=True)):
        left, top, right, bottom = window
        free = size - (right - left), size - (bottom - top)
        draws = uniform[2 + 2 * number : 4 + 2 * number]
        across, down = (int(share * (n + 1)) for share, n in zip(draws, free, strict=True))
        rows, columns = slice(down, down + bottom - top), slice(across, across + right - left)
        for name, array in pixels.items():
            array[top:bottom, left:right] = part.pixels[name][rows, columns]
        found.append(in_window(part.objects, window, (left - across, top - down)))
    cut_off = sum(part.cut_off for part in parts) + sum(lost for _, lost in found)
    return Example(pixels, joined([objects for objects, _ in found]), cut_off)


def joined(objects: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The objects of several, one behind the other."""
    return {name: np.concatenate([one[name] for one in objects]) for name in objects[0]}

"""Anchors: boxes at each place of each map, relative to which a network says its boxes.

They are constants of a size of image, made by NumPy when a program is traced.
"""

from collections.abc import Sequence

import numpy as np


def map_sides(size: int, strides: Sequence[int]) -> list[int]:
    """Height and width of the maps of an image of size x size pixels: rounded up."""
    return [-(-size // stride) for stride in strides]


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """The anchors of a place, around (0, 0): float32 [len(ratios) * len(sizes), 4].

    torchvision's: whole pixels, and all sizes of the first ratio come first.

    Args:
      sizes: square roots of areas in pixels.
      ratios: heights over widths.
    """
    high = np.sqrt(np.array(ratios, np.float32))
    sizes = np.array(sizes, np.float32)
    width, height = ((side[:, None] * sizes[None]).ravel() for side in (1 / high, high))
    return np.round(np.stack([-width, -height, width, height], 1) / 2).astype(np.float32)


def grid_anchors(
    size: int, strides: Sequence[int], cells: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The anchors float32 [h * w * n, 4] of each map of an image of size x size pixels.

    Args:
      size: of the image.
      strides: of the maps.
      cells: those of a place of each map, see `cell_anchors`.
    """
    levels = []
    for side, cell in zip(map_sides(size, strides), cells, strict=True):
        # torchvision's distance, which is the stride where that divides the size.
        steps = np.arange(side, dtype=np.float32) * (size // side)
        y, x = np.meshgrid(steps, steps, indexing="ij")
        shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        levels.append((shifts + cell[None]).reshape(-1, 4))
    return levels

"""What a network makes of images of which most patches are hidden, as in He et al. 2021."""

from pathlib import Path

import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.reports.sheet import sheet_of_rows
from imagenet_jax.terminal import say

RECONSTRUCTION = "reconstruction.png"
_GREY = 128


def grey_patches(images: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Images uint8 [n, S, S, 3] with patches made grey, bool [n, T] of a square of T."""
    side = round(masked.shape[1] ** 0.5)
    size = images.shape[1] // side
    grid = masked.reshape(-1, side, side).repeat(size, 1).repeat(size, 2)
    return np.where(grid[..., None], np.uint8(_GREY), images)


def write_reconstructions(
    images: np.ndarray, reconstructed: np.ndarray, masked: np.ndarray, folder: Path
) -> list[str]:
    """Draws a column for each image: what is seen of it, what is made of that, and itself.

    Args:
      images, reconstructed: uint8 [n, S, S, 3].
      masked: bool [n, T], which patches were hidden.
      folder: gets reconstruction.png.

    Returns:
      The names of the files that were written; one that could not be costs a warning.
    """
    rows = {
        "what is seen": grey_patches(images, masked),
        "reconstruction": reconstructed,
        "original": images,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / RECONSTRUCTION) as partial:
            sheet_of_rows(rows).save(partial, "PNG")
    except OSError as error:
        say(f"warning: {folder / RECONSTRUCTION} cannot be drawn: {error}")
        return []
    return [RECONSTRUCTION]

"""Copy-paste: some objects of one training image on another (Ghiasi et al. 2021), not blended."""

import numpy as np

from imagenet_jax.data.images.mosaic import joined
from imagenet_jax.data.images.object_rows import Example, pixels_of, tight
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.outlines import OBJECT_MASKS


def copy_paste(onto: Example, source: Example, chosen: np.ndarray) -> Example:
    """An example with objects of another one over its own.

    What is hidden of an object is no longer in its mask and box; one of which nothing is seen
    counts as cut off.

    Args:
      onto, source: with objects and masks; images of one size.
      chosen: which objects of `source`, bool [n].
    """
    if not chosen.any():
        return onto
    size = len(onto.pixels["image"])
    new = {name: values[chosen] for name, values in source.objects.items()}
    over = np.zeros((size, size), bool)
    for one in zip(new[OBJECT_MASKS], new[BOXES], strict=True):
        where, filled = pixels_of(*one, size)
        over[where] |= filled
    pixels = {
        name: np.where(over[..., None] if array.ndim == 3 else over, source.pixels[name], array)
        for name, array in onto.pixels.items()
    }
    old, hidden = _uncovered(onto.objects, over)
    return Example(pixels, joined([old, new]), onto.cut_off + hidden)


def _uncovered(
    objects: dict[str, np.ndarray], over: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """What is seen of objects below the pixels bool [S, S], and how many are hidden."""
    found = {name: values.copy() for name, values in objects.items()}
    seen = np.ones(len(found["classes"]), bool)
    for row, pair in enumerate(zip(objects[OBJECT_MASKS], objects[BOXES], strict=True)):
        where, filled = pixels_of(*pair, len(over))
        if not (filled & over[where]).any():
            continue
        left = filled & ~over[where]
        seen[row] = left.any()
        if seen[row]:
            corner = where[0].start, where[1].start
            found[BOXES][row], found[OBJECT_MASKS][row] = tight(left, corner)
            found["area"][row] = (found[BOXES][row, 2:] - found[BOXES][row, :2]).prod()
    return {name: values[seen] for name, values in found.items()}, int((~seen).sum())

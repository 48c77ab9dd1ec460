"""An example of a training batch with its objects, for what makes one of several."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.outlines import OBJECT_MASKS, SIDE, shares

_OF_OBJECTS = (BOXES, "classes", "ignored", "area", OBJECT_MASKS)


class Example(NamedTuple):
    """One row of a training batch.

    Attributes:
      pixels: the image uint8 [S, S, 3] and its maps uint8 [S, S], by the names of their fields.
      objects: those of `objects.object_fields` that objects have, [n, ...] each; {}: no such task.
      cut_off: how many objects are not there, as nothing of them is seen.
    """

    pixels: Mapping[str, np.ndarray]
    objects: Mapping[str, np.ndarray]
    cut_off: int = 0


def example_of(row: Mapping[str, np.ndarray], maps: Sequence[str]) -> Example:
    """Of the fields of a row, without padding."""
    pixels = {name: row[name] for name in ("image", *maps)}
    if BOXES not in row:
        return Example(pixels, {})
    count = int((row["classes"] >= 0).sum())
    objects = {name: row[name][:count] for name in _OF_OBJECTS if name in row}
    # Objects beyond what there is room for stay left out: they are counted apart.
    return Example(pixels, objects, int(row["left_out"][0]))


def put_into(row: Mapping[str, np.ndarray], example: Example, too_many: int) -> None:
    """Writes an example into the fields of a row; of more objects than fit the largest.

    Args:
      row: views of the arrays of a batch.
      example: what to write.
      too_many: objects that did not fit before.
    """
    for name, array in example.pixels.items():
        row[name][:] = array
    if not example.objects:
        return
    most = len(row["classes"])
    kept = np.sort(np.argsort(-example.objects["area"], kind="stable")[:most])
    for name, values in example.objects.items():
        row[name][: len(kept)] = values[kept]
        row[name][len(kept) :] = -1 if name == "classes" else 0
    row["left_out"][:] = example.cut_off, too_many + len(example.objects["area"]) - len(kept)


def in_window(
    objects: Mapping[str, np.ndarray], window: Sequence[int], shift: Sequence[int]
) -> tuple[dict[str, np.ndarray], int]:
    """Objects whose image is moved and cut at the edges of a window.

    Args:
      objects: see `Example`.
      window: left, top, right and bottom in pixels of the new image.
      shift: to the right and down, in pixels.

    Returns:
      What is left of them, a pixel at least each way, and how many are cut off.
    """
    if not objects:
        return {}, 0
    low, high = np.tile(window[:2], 2), np.tile(window[2:], 2)
    before = objects[BOXES] + np.tile(shift, 2).astype(np.float32)
    boxes = np.clip(before, low, high).astype(np.float32)
    seen = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    found = {name: values[seen] for name, values in objects.items()}
    found |= _of_boxes(boxes[seen])
    if OBJECT_MASKS in objects:
        places = zip(found[OBJECT_MASKS], before[seen], boxes[seen], strict=True)
        masks = [_part(mask, *both) for mask, *both in places]
        found = with_masks(found, masks)
    return found, len(seen) - len(found["classes"])


def with_masks(
    objects: Mapping[str, np.ndarray], masks: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Objects with these masks uint8 [SIDE, SIDE], but for those of which they show nothing."""
    masks = np.array(masks, np.uint8).reshape(-1, SIDE, SIDE)
    has = masks.any((1, 2))
    return {name: values[has] for name, values in {**objects, OBJECT_MASKS: masks}.items()}


def pixels_of(
    mask: np.ndarray, box: np.ndarray, size: int
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Which pixels an object fills, whose mask uint8 [SIDE, SIDE] is of a box.

    Args:
      mask, box: of the object.
      size: height and width of the image.

    Returns:
      Rows and columns around the box, and bool [h, w] of these.
    """
    left, top, right, bottom = box.astype(np.float64)
    low = np.clip(np.floor([left, top]), 0, size).astype(int)
    high = np.clip(np.ceil([right, bottom]), low, size).astype(int)
    where = slice(low[1], high[1]), slice(low[0], high[0])
    wide, tall = SIDE / (right - left), SIDE / (bottom - top)
    # Where in the mask, which has a line of its edge's values around it, a pixel's centre is.
    to_mask = np.array(
        [
            [wide, 0, (low[0] + 0.5 - left) * wide + 0.5],
            [0, tall, (low[1] + 0.5 - top) * tall + 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    sides = high - low
    if not sides.all():
        return where, np.zeros(sides[::-1], bool)
    filled = cv2.warpAffine(padded, to_mask, tuple(sides.tolist()), flags=flags) >= 128
    columns = np.arange(low[0], high[0]) + 0.5
    rows = np.arange(low[1], high[1])[:, None] + 0.5
    inside = (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
    return where, filled & inside


def _of_boxes(boxes: np.ndarray) -> dict[str, np.ndarray]:
    return {BOXES: boxes, "area": (boxes[:, 2:] - boxes[:, :2]).prod(1)}


def _part(mask: np.ndarray, whole: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The mask of a box, of which a larger one's is given."""
    if (whole == box).all():
        return mask
    sides = np.tile(whole[2:] - whole[:2], 2) / SIDE
    return shares(mask, (box - np.tile(whole[:2], 2)) / sides)


def tight(filled: np.ndarray, corner: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The box float32 [4] of pixels bool [h, w], and their mask uint8 [SIDE, SIDE] in it.

    `corner`: where the first row and the first column are in the image.
    """
    rows, columns = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    mask = shares(filled.astype(np.uint8) * 255, box)
    return box + np.tile(corner[::-1], 2).astype(np.float32), mask

"""Which pixels of an image are of an object: polygons, run lengths, or numbers in a map.

Run lengths are COCO's, {"size": [height, width], "counts": bytes}, which pycocotools computes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_masks

from imagenet_jax.data.images.class_map import decode_map
from imagenet_jax.data.sources.source import Field

OBJECT_MASKS = "masks"  # what a task reads that wants objects and their pixels
SIDE = 56  # places along each side of an object's box in its mask
_MOST_POINTS = 10**5  # of the polygons of an object

# Of an object: polygons float64 [n, 2] of (x, y); COCO's run lengths; or its number in a map.
Outline = tuple[np.ndarray, ...] | Mapping[str, Any] | int


def mask_field(most: int) -> Field:
    """What a batch has of the pixels of the objects of each image.

    uint8 [M, SIDE, SIDE]: an object's share of each of SIDE x SIDE parts of its box, 255 being all
    of it; 0 in evaluation.
    """
    return Field((most, SIDE, SIDE), np.uint8)


def polygons(parts: Any) -> Outline | None:
    """The outline that lists of x, y, x, y, ... are; None if none of them is a polygon.

    A number that is not finite, an odd count of them, or fewer than three points: no polygon; it is
    left out beside others, as in detectron2.
    """
    if not isinstance(parts, list | tuple):
        return None
    found = tuple(part for part in map(_polygon, parts) if part is not None)
    return found if found and sum(map(len, found)) <= _MOST_POINTS else None


def _polygon(numbers: Any) -> np.ndarray | None:
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if len(points) > 2 and np.isfinite(points).all() else None


def run_lengths(lengths: Any, sides: tuple[int, int]) -> Outline | None:
    """COCO's run lengths, packed or not; None if they are not those of such an image."""
    try:
        if tuple(map(int, lengths["size"])) != tuple(sides):
            return None
        counts = lengths["counts"]
        if isinstance(counts, str | bytes):
            counts = _unpacked(counts.encode() if isinstance(counts, str) else counts)
        counts = [int(count) for count in counts]
    except (TypeError, KeyError, ValueError, IndexError, OverflowError):
        return None
    if min(counts, default=-1) < 0 or sum(counts) != sides[0] * sides[1]:
        return None
    return coco_masks.frPyObjects({"size": list(sides), "counts": counts}, *sides)


def _unpacked(text: bytes) -> list[int]:
    """Lengths of COCO's text: groups of five bits, from the third one on differences."""
    counts: list[int] = []
    value = shift = 0
    for byte in text:
        bits = byte - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) << (shift - 4)  # the sign
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def packed(
    outlines: Sequence[Outline],
    shape: tuple[int, int],
    scale: Sequence[float] = (1.0, 1.0),
    instances: bytes | memoryview = b"",
) -> list[dict[str, Any]]:
    """The run lengths of each object in an image of this height and width.

    Args:
      outlines: of the objects.
      shape: of the image.
      scale: pixels, across and down, for each unit of polygons.
      instances: the file of the map in which objects have numbers.

    Raises:
      ValueError, OSError: for a map that cannot be read or is of another size.
    """
    levels = decode_map(instances, shape, "its map of objects") if instances else None
    return [_packed(one, shape, np.array(scale), levels) for one in outlines]


def check_instances(
    outlines: Sequence[Outline], shape: tuple[int, int], instances: bytes | memoryview
) -> None:
    """Raises ValueError or OSError for a map of objects that cannot be read, is of another size, or
    has none of the number of one of them."""
    there = np.unique(decode_map(instances, shape, "its map of objects"))
    lacking = sorted({*outlines}.difference(there.tolist()))
    if lacking:
        raise ValueError(f"its map of objects has no pixel of the number {lacking[0]}")


def _packed(
    outline: Outline, shape: tuple[int, int], scale: np.ndarray, levels: np.ndarray | None
) -> dict[str, Any]:
    if isinstance(outline, int):
        mask = np.zeros(shape, np.uint8) if levels is None else np.uint8(levels == outline)
        return coco_masks.encode(np.asfortranarray(mask))
    if isinstance(outline, Mapping):
        return dict(outline)
    sides = np.array(shape[::-1], np.float64)
    # Far outside, where nothing is seen, corners would cost memory.
    flat = [np.clip(part * scale, -sides, 2 * sides).ravel().tolist() for part in outline]
    return coco_masks.merge(coco_masks.frPyObjects(flat, *shape))


def box_mask(lengths: Mapping[str, Any], box: np.ndarray) -> np.ndarray:
    """uint8 [SIDE, SIDE]: an object's share of each part of a box, in pixels of the image."""
    return shares(coco_masks.decode(lengths) * 255, box)


def shares(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """uint8 [SIDE, SIDE]: of each part of a box, in pixels of a mask uint8 [H, W] of 0 to 255."""
    left, top, right, bottom = box
    wide, high = (right - left) / SIDE, (bottom - top) / SIDE
    # Where in the image the centre of each part is.
    back = np.array([[wide, 0, left + wide / 2 - 0.5], [0, high, top + high / 2 - 0.5]])
    if max(wide, high) > 2:  # then neighbours alone would miss most pixels
        blur = [max(1, round(side)) for side in (wide, high)]
        mask = cv2.blur(mask, blur, borderType=cv2.BORDER_CONSTANT)
        # The middle of a window of an even side lies half a pixel before its place.
        back[:, 2] += [0.5 * (side % 2 == 0) for side in blur]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, back, (SIDE, SIDE), flags=flags)

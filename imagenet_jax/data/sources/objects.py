"""Objects in images: a box and a class of each, as fields of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.data.sources.outlines import (
    OBJECT_MASKS,
    Outline,
    box_mask,
    check_instances,
    mask_field,
    packed,
)
from imagenet_jax.data.sources.source import Field

BOXES = "boxes"  # what a task reads that wants objects


class Objects(NamedTuple):
    """The n objects of an image, as its data set has them.

    Attributes:
      boxes: left, top, right and bottom, float64 [n, 4], in units of `sides`.
      labels: numbers of their classes, int32 [n].
      crowd: bool [n]: of several things at once (COCO's iscrowd), nothing to learn from.
      ignored: bool [n]: neither right nor wrong to find (a crowd; difficult in Pascal VOC).
      area: in pixels, which COCO's small, medium and large go by, float64 [n]; NaN: of the box.
      sides: height and width in pixels of the image that they are of; None: boxes are shares of
        its sides.
      outlines: which pixels are of each, polygons in units of `sides`; None: nobody asked.
      instances: the file of the map in which objects have the numbers that are their outlines.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    area: np.ndarray
    sides: tuple[int, int] | None = None
    outlines: tuple[Outline, ...] | None = None
    instances: bytes | memoryview = b""


def make_objects(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    sides: tuple[int, int] | None = None,
    crowd: Sequence[bool] | None = None,
    ignored: Sequence[bool] | None = None,
    area: Sequence[float] | None = None,
    outlines: Sequence[Outline] | None = None,
) -> Objects:
    """`Objects` of sequences; of what is left out there is none."""
    count = len(labels)
    crowd = np.zeros(count, bool) if crowd is None else np.array(crowd, bool)
    ignored = crowd if ignored is None else np.array(ignored, bool) | crowd
    return Objects(
        np.array(boxes, np.float64).reshape(count, 4),
        np.array(labels, np.int32).reshape(count),
        crowd,
        ignored,
        np.full(count, np.nan) if area is None else np.array(area, np.float64),
        sides,
        None if outlines is None else tuple(outlines),
    )


def object_fields(most: int, masks: bool = False) -> dict[str, Field]:
    """What a batch has of the objects of each image.

    boxes: float32 [M, 4], in training in pixels of the network's input, in evaluation in those of
    the photo; classes: int32 [M], -1 behind the last object; ignored: bool [M]; area: float32 [M]
    in pixels of the photo; size: height and width of the photo; left_out: how many objects are not
    there, as they are cut off, and as there are more than M; see also `outlines.mask_field`.

    Args:
      most: M.
      masks: whether there are masks.
    """
    return {
        **({OBJECT_MASKS: mask_field(most)} if masks else {}),
        BOXES: Field((most, 4), np.float32),
        "classes": Field((most,), np.int32, -1),
        "ignored": Field((most,), np.bool_, False),
        "area": Field((most,), np.float32),
        "size": Field((2,), np.int32),
        "left_out": Field((2,), np.int32),
    }


def placed(
    objects: Objects,
    shape: tuple[int, int],
    box: Sequence[int],
    place: Sequence[int],
    size: int,
    most: int,
    counts: np.ndarray | None = None,
) -> Mapping[str, np.ndarray]:
    """The values of `object_fields` in training: objects where they are in the network's input.

    Crowds are left out, and what is cut off; of more than `most` the largest are kept.

    Args:
      objects: of the image.
      shape: its height and width.
      box: the part of the image that is used: top, left, height, width.
      place: where it comes in the input, see `Preprocess.place`.
      size: height and width of the input.
      most: M.
      counts: which objects that are no crowds may be there, bool [n]; others are cut off.
    """
    boxes = in_pixels(objects, shape)[~objects.crowd]
    labels = objects.labels[~objects.crowd]
    numbers = np.flatnonzero(~objects.crowd)
    scale = np.array([place[3] / box[3], place[2] / box[2]] * 2)
    shift = np.array([place[1], place[0]] * 2) - scale * np.array([box[1], box[0]] * 2)
    boxes = boxes * scale + shift
    # What is beside the box is not seen, where that does not fill the input.
    low = np.maximum([place[1], place[0]], 0)
    high = np.minimum([place[1] + place[3], place[0] + place[2]], size)
    boxes = np.clip(boxes, [*low, *low], [*high, *high])
    sides = boxes[:, 2:] - boxes[:, :2]
    seen = (sides >= 1).all(1) if counts is None else (sides >= 1).all(1) & counts
    kept = np.flatnonzero(seen)
    largest = np.argsort(-sides[kept].prod(1), kind="stable")[:most]
    kept = np.sort(kept[largest])
    left_out = [int((~seen).sum()), int(seen.sum()) - len(kept)]
    in_image = (boxes[kept] - shift) / scale
    masks = _masks(objects, shape, numbers[kept], in_image)
    if masks is not None:  # a part of a box may have nothing of its object
        has = masks.any((1, 2))
        kept, masks = kept[has], masks[has]
        left_out[0] += int((~has).sum())
    return {
        **({} if masks is None else {OBJECT_MASKS: masks}),
        BOXES: boxes[kept],
        "classes": labels[kept],
        "ignored": np.zeros(len(kept), bool),
        "area": sides[kept].prod(1),
        "size": np.array(shape),
        "left_out": np.array(left_out),
    }


def _masks(
    objects: Objects, shape: tuple[int, int], numbers: np.ndarray, boxes: np.ndarray
) -> np.ndarray | None:
    """The values of `mask_field`, of the objects of these numbers, within boxes [n, 4] in pixels
    of the image; None where nobody asked for outlines."""
    if objects.outlines is None:
        return None
    wanted = objects._replace(outlines=tuple(objects.outlines[k] for k in numbers))
    masks = [box_mask(*pair) for pair in zip(run_lengths_of(wanted, shape), boxes, strict=True)]
    return np.array(masks, np.uint8).reshape(-1, *mask_field(1).shape[1:])


def run_lengths_of(objects: Objects, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """The pixels of each object as COCO's run lengths; see `outlines.packed`."""
    scale = (1.0, 1.0) if objects.sides else shape[::-1]
    return packed(objects.outlines, shape, scale, objects.instances)


def as_they_are(objects: Objects, shape: tuple[int, int], most: int) -> Mapping[str, np.ndarray]:
    """The values of `object_fields` in evaluation.

    Raises:
      ValueError: for more than `most` objects: an evaluation leaves none out; or a map without
        one of them.
    """
    if len(objects.labels) > most:
        raise ValueError(
            f"it has {len(objects.labels)} objects, more than data.max_objects = {most}; raise it"
        )
    boxes = in_pixels(objects, shape)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    if objects.instances:
        check_instances(objects.outlines, shape, objects.instances)
    masks = (
        {} if objects.outlines is None else {OBJECT_MASKS: np.zeros((0, *mask_field(1).shape[1:]))}
    )
    return {
        **masks,
        BOXES: boxes,
        "classes": objects.labels,
        "ignored": objects.ignored,
        "area": np.where(np.isnan(objects.area), areas, objects.area),
        "size": np.array(shape),
        "left_out": np.zeros(2, np.int32),
    }


def in_pixels(objects: Objects, shape: tuple[int, int]) -> np.ndarray:
    """The boxes float64 [n, 4] in pixels of the image.

    Raises:
      ValueError: for an image of another size than that of which the boxes are.
    """
    if objects.sides is None:
        return objects.boxes * np.array([shape[1], shape[0]] * 2)
    if tuple(objects.sides) != tuple(shape):
        turned = tuple(objects.sides) == tuple(shape)[::-1]
        hint = "; data.exif_orientation=False leaves photos as they are stored" if turned else ""
        height, width = objects.sides
        raise ValueError(
            f"it has {shape[0]} x {shape[1]} pixels (height x width), and its boxes are of an "
            f"image of {height} x {width}{hint}"
        )
    return objects.boxes


class BoxChecks:
    """Looks at boxes that are read, and counts what is wrong with them.

    Attributes:
      counts: {what: places}, as `layout.LeftOut`.
    """

    def __init__(self) -> None:
        self.counts: dict[str, list[str]] = {}

    def count(self, what: str, where: str) -> None:
        """One more."""
        self.counts.setdefault(what, []).append(where)

    def inside(
        self, box: Sequence[float], height: float, width: float, where: str
    ) -> tuple[float, float, float, float] | None:
        """A box cut at the edges of its image; None if nothing is left of it, or it is no box."""
        try:
            left, top, right, bottom = map(float, box)
        except (TypeError, ValueError):
            return self.count("boxes that are not four numbers", where)
        if not np.isfinite([left, top, right, bottom]).all():
            return self.count("boxes that are not four numbers", where)
        if right <= left or bottom <= top:
            return self.count("boxes of no area", where)
        cut = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            return self.count("boxes outside their image", where)
        over = max(-left / width, -top / height, right / width - 1, bottom / height - 1)
        if over > 0.01:  # a pixel or two are rounding
            self.count("boxes cut at the edge of their image (kept)", where)
        return cut

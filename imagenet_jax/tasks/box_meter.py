"""Average precision of boxes, of a whole split, on the host."""

import contextlib
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.tasks.mask_pasting import mask_area, pasted
from imagenet_jax.tasks.voc_precision import voc_average_precision

# COCO's twelve numbers in the order of pycocotools.
COCO = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("mar1", "mar10", "mar100", "mar_small", "mar_medium", "mar_large"),
)
METRICS = (*COCO, "voc_map50", "voc07_map50")


class Image(NamedTuple):
    """What is in an image and what was told of it, boxes [n, 4] in pixels of the photo, float64."""

    index: int
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    area: np.ndarray
    size: tuple[int, int]
    found: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: Sequence[Mapping[str, Any]] = ()  # COCO's run lengths of what was told


class BoxMeter:
    """The objects and the detections of all examples; see `task.Meter`.

    COCO's metrics are those of pycocotools: AP is the mean over ten thresholds of the IoU, 0.5 to
    0.95, and over the classes, with at most 100 boxes an image. voc_map50 is Pascal VOC's since
    2010, voc07_map50 the one before, of eleven points. NaN where there are no such objects.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        preprocess: Any,
    ):
        """preprocess: how photos are made ready, a `Preprocess`."""
        self.class_names, self.preprocess = tuple(class_names), preprocess
        self._images: dict[int, Image] = {}

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes the fields of `objects.object_fields`, and predicted_boxes, _scores, _classes, and
        _masks if there are any."""
        for row, index in enumerate(observed["index"].tolist()):
            there = observed["classes"][row] >= 0
            told = observed["predicted_scores"][row] > 0
            size = tuple(observed["size"][row].tolist())
            found = np.float64(observed["predicted_boxes"][row][told])
            found, masks = self.preprocess.restore_boxes(found, size), ()
            if "predicted_masks" in observed:
                masks = pasted(observed["predicted_masks"][row][told], found, size)
            self._images[index] = Image(
                index,
                np.float64(observed["boxes"][row][there]),
                observed["classes"][row][there],
                observed["ignored"][row][there],
                np.float64(observed["area"][row][there]),
                size,
                found,
                np.float64(observed["predicted_scores"][row][told]),
                observed["predicted_classes"][row][told],
                masks,
            )

    def images(self) -> list[Image]:
        """In the order of their numbers, however they came."""
        return [self._images[index] for index in sorted(self._images)]

    def metrics(self) -> dict[str, float | int]:
        """All of METRICS, as fractions of 1."""
        values = coco_numbers(self.coco)
        images, count = self.images(), len(self.class_names)
        since, before = voc_average_precision(images, count)
        return values | {"voc_map50": _mean(since), "voc07_map50": _mean(before)}

    @functools.cached_property
    def coco(self) -> Any:
        """pycocotools' COCOeval of boxes after all was added."""
        return coco_evaluation(self.images(), self.class_names, "bbox")

    @property
    def main(self) -> Any:
        """The COCOeval whose average precision decides."""
        return self.coco

    def class_precisions(self) -> np.ndarray:
        """AP, AP50 and the APs of small, medium and large objects of each class [K, 5]; NaN of one
        without such objects."""
        precision = self.main.eval["precision"][..., -1]  # [IoU, recall, K, size]
        precision = np.where(precision < 0, np.nan, precision)
        whole = precision[:, :, :, 0]
        columns = [whole.mean((0, 1)), whole[0].mean(0), *precision.mean((0, 1)).T[1:]]
        return np.stack(columns, 1)


def coco_numbers(evaluation: Any) -> dict[str, float]:
    """COCO's twelve of a COCOeval, by their names."""
    found = np.array(evaluation.stats, np.float64)
    return dict(zip(COCO, np.where(found < 0, np.nan, found).tolist(), strict=True))


def coco_evaluation(
    images: Sequence[Image],
    class_names: Sequence[str],
    kind: str,
    masks_of: Callable[[int], Sequence[tuple[Mapping[str, Any], float]]] | None = None,
) -> Any:
    """pycocotools' COCOeval of boxes or masks.

    Args:
      images: what is there and what was told.
      class_names: by the numbers of the classes.
      kind: "bbox" or "segm".
      masks_of: the run lengths of the objects of an image and their areas, by its number.
    """
    from pycocotools.coco import COCO as Annotations
    from pycocotools.cocoeval import COCOeval

    truth, told = Annotations(), Annotations()
    facts = {
        "images": [
            {"id": one.index + 1, "height": one.size[0], "width": one.size[1]} for one in images
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(class_names)],
    }
    there, found = _truth(images), _told(images)
    if masks_of:
        known = [pair for one in images for pair in masks_of(one.index)]
        told_masks = [(mask, mask_area(mask)) for one in images for mask in one.masks]
        for rows, pairs in ((there, known), (found, told_masks)):
            for row, (mask, area) in zip(rows, pairs, strict=True):
                row["segmentation"], row["area"] = mask, area
    truth.dataset = {**facts, "annotations": there}
    told.dataset = {**facts, "annotations": found}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        told.createIndex()
        evaluation = COCOeval(truth, told, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _truth(images: Sequence[Image]) -> list[dict[str, Any]]:
    rows = []
    for one in images:
        for box, label, ignored, area in zip(
            one.boxes.tolist(),
            one.classes.tolist(),
            one.ignored.tolist(),
            one.area.tolist(),
            strict=True,
        ):
            row = {"area": area, "iscrowd": int(ignored)}
            rows.append(_row(row, len(rows), one.index, label, box))
    return rows


def _told(images: Sequence[Image]) -> list[dict[str, Any]]:
    rows = []
    for one in images:
        for box, label, score in zip(
            one.found.tolist(), one.labels.tolist(), one.scores.tolist(), strict=True
        ):
            area = (box[2] - box[0]) * (box[3] - box[1])
            row = {"area": area, "iscrowd": 0, "score": score}
            rows.append(_row(row, len(rows), one.index, label, box))
    return rows


def _row(
    more: Mapping[str, Any], number: int, index: int, label: int, box: Sequence[float]
) -> dict[str, Any]:
    left, top, right, bottom = box
    return {
        **more,
        "id": number + 1,  # 0 would count as none
        "image_id": index + 1,
        "category_id": label,
        "bbox": [left, top, right - left, bottom - top],
    }


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")

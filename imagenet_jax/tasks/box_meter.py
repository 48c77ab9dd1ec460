"""Average precision of boxes, of a whole split, on the host."""

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.tasks.voc_precision import voc_average_precision

# COCO's twelve numbers in the order of pycocotools.
_COCO = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("mar1", "mar10", "mar100", "mar_small", "mar_medium", "mar_large"),
)
METRICS = (*_COCO, "voc_map50", "voc07_map50")


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
        """Takes the fields of `objects.object_fields`, and predicted_boxes, _scores, _classes."""
        for row, index in enumerate(observed["index"].tolist()):
            there = observed["classes"][row] >= 0
            told = observed["predicted_scores"][row] > 0
            size = tuple(observed["size"][row].tolist())
            found = np.float64(observed["predicted_boxes"][row][told])
            self._images[index] = Image(
                index,
                np.float64(observed["boxes"][row][there]),
                observed["classes"][row][there],
                observed["ignored"][row][there],
                np.float64(observed["area"][row][there]),
                size,
                self.preprocess.restore_boxes(found, size),
                np.float64(observed["predicted_scores"][row][told]),
                observed["predicted_classes"][row][told],
            )

    def images(self) -> list[Image]:
        """In the order of their numbers, however they came."""
        return [self._images[index] for index in sorted(self._images)]

    def metrics(self) -> dict[str, float | int]:
        """All of METRICS, as fractions of 1."""
        found = np.array(self.coco.stats, np.float64)
        values = dict(zip(_COCO, np.where(found < 0, np.nan, found).tolist(), strict=True))
        images, count = self.images(), len(self.class_names)
        since, before = voc_average_precision(images, count)
        return values | {"voc_map50": _mean(since), "voc07_map50": _mean(before)}

    @functools.cached_property
    def coco(self) -> Any:
        """pycocotools' COCOeval after all was added."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        images = self.images()
        truth, told = COCO(), COCO()
        facts = {
            "images": [
                {"id": one.index + 1, "height": one.size[0], "width": one.size[1]} for one in images
            ],
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.class_names)],
        }
        truth.dataset = {**facts, "annotations": _truth(images)}
        told.dataset = {**facts, "annotations": _told(images)}
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            told.createIndex()
            evaluation = COCOeval(truth, told, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def class_precisions(self) -> np.ndarray:
        """AP and AP50 of each class [K, 2]; NaN of one without objects."""
        precision = self.coco.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, K]
        means = np.stack([precision.mean((0, 1)), precision[0].mean(0)], 1)
        return np.where(precision[0, 0][:, None] < 0, np.nan, means)


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

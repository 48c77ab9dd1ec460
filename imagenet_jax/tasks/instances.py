"""Boxes around things, their classes, and which pixels they fill."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imagenet_jax.atomic import replacing
from imagenet_jax.data import Split
from imagenet_jax.data.sources.objects import BOXES, run_lengths_of
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.models.detection import Detections
from imagenet_jax.reports.mask_pictures import instance_map, painted
from imagenet_jax.reports.palette import map_image
from imagenet_jax.tasks.box_answers import draw
from imagenet_jax.tasks.box_meter import COCO, METRICS, BoxMeter, coco_evaluation, coco_numbers
from imagenet_jax.tasks.detection import Detection
from imagenet_jax.tasks.mask_pasting import mask_area, pasted

MASK_METRICS = tuple(f"mask_{name}" for name in COCO)


class InstanceMeter(BoxMeter):
    """As `BoxMeter`, and COCO's twelve numbers of the masks, mask_map and so on."""

    def __init__(self, class_names: Any, preprocess: Any, split: Split):
        """split: whose objects have masks."""
        super().__init__(class_names, preprocess)
        self._split = split

    def metrics(self) -> dict[str, float | int]:
        numbers = coco_numbers(self.mask_coco)
        return super().metrics() | {f"mask_{name}": value for name, value in numbers.items()}

    @cached_property
    def mask_coco(self) -> Any:
        """pycocotools' COCOeval of masks after all was added."""
        images = self.images()
        shapes = {one.index: one.size for one in images}
        source = self._split.encoded  # not what data.cache makes of it

        def masks_of(index: int) -> list[tuple[dict[str, Any], float]]:
            objects = source.objects(index)
            masks = run_lengths_of(objects, shapes[index])
            return [
                (mask, mask_area(mask) if np.isnan(area) else area)
                for mask, area in zip(masks, objects.area.tolist(), strict=True)
            ]

        return coco_evaluation(images, self.class_names, "segm", masks_of)

    @property
    def main(self) -> Any:
        """That of the masks."""
        return self.mask_coco


class Instances(Detection):
    """Mask R-CNN, which config.model.head names; COCO's average precision of boxes and masks."""

    reads = (BOXES, OBJECT_MASKS)
    has_masks = True
    has_maps = True
    averages_views = False
    takes_scales = False
    best = "mask_map"
    eval_metrics: ClassVar[Mapping[str, bool]] = dict.fromkeys((*MASK_METRICS, *METRICS), True)

    def meter(self, split: Split) -> InstanceMeter:
        return InstanceMeter(self.class_names, self._preprocess(), split)

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        masks = {name: result[f"mask_{name}"] for name in COCO}
        of_masks = Detection.rows({**result, **masks})
        return {
            "mask AP (COCO)": of_masks["AP (COCO)"],
            "mask AP50, AP75": of_masks["AP50, AP75"],
            **Detection.rows(result),
        }

    def answer(
        self, prediction: Detections, top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """As `Detection.answer`, and mask, COCO's run lengths in text, of each object."""
        found = super().answer(prediction, top, shape)
        boxes = np.array([one["box"] for one in found["objects"]]).reshape(-1, 4)
        masks = prediction.masks[: len(boxes)]  # what is not there comes last
        size = shape or (self.config.data.image_size,) * 2
        for one, mask in zip(found["objects"], pasted(masks, boxes, size), strict=True):
            one["mask"] = {"size": mask["size"], "counts": mask["counts"].decode()}
        return found

    @staticmethod
    def write_map(answer: Mapping[str, Any], path: Path) -> None:
        """Writes the numbers of the objects, 1 being the best one."""
        with replacing(path) as partial:
            levels = instance_map(answer["objects"], answer["size"])
            map_image(levels).save(partial, "PNG")

    @staticmethod
    def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
        draw(figure, painted(picture, answer["objects"]), answer)


TASK = Instances

"""TFDS data sets whose images have objects with boxes: coco, voc, scenes and their like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.objects import BOXES, Objects, make_objects, object_fields
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.records import Records, RecordSource
from imagenet_jax.data.sources.source import ImpossibleValue
from imagenet_jax.errors import DataError

_OBJECTS = "objects"
_INSTANCES = "instances"  # an image with the number of the object of each pixel, from 1 on
_LABELS = ("label", "class", "category")


class _BoxRecordSource(RecordSource):
    """A split of records with an image and objects; see `source.EncodedSource`."""

    def __init__(
        self,
        records: Records,
        class_names: tuple[str, ...],
        name: str,
        label: str,
        most: int,
        masks: bool,
    ):
        super().__init__(records, class_names, name, reads=())
        self.fields = object_fields(most, masks)
        self._label = f"{_OBJECTS}/{label}"

    def read(self, index: np.ndarray) -> tuple[list[memoryview], dict[str, list[Objects]]]:
        features = [parse_example(record) for record in self._records.get(index)]
        try:
            images = [memoryview(feature["image"][0]) for feature in features]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("the record has no image") from error
        return images, {BOXES: [self._objects(feature) for feature in features]}

    def objects(self, index: int) -> Objects:
        """What is in an image."""
        (record,) = self._records.get(np.array([index]))
        return self._objects(parse_example(record))

    def _objects(self, feature: Mapping[str, Sequence[Any]]) -> Objects:
        labels = list(feature.get(self._label, ()))
        corners = np.array(feature.get(f"{_OBJECTS}/bbox", ()), np.float64)
        if corners.size != 4 * len(labels):
            raise ValueError(f"it has {corners.size} numbers of boxes for {len(labels)} labels")
        for label in labels:
            if not 0 <= label < len(self.class_names):
                raise ImpossibleValue(f"label {label} is none of 0 to {len(self.class_names) - 1}")
        # TFDS has top, left, bottom, right.
        boxes = np.clip(corners.reshape(-1, 4)[:, [1, 0, 3, 2]], 0, 1)
        flags = {
            name: feature.get(f"{_OBJECTS}/{name}") or [0] * len(labels)
            for name in ("is_crowd", "is_difficult")
        }
        area = feature.get(f"{_OBJECTS}/area") or [np.nan] * len(labels)
        # What has no area is kept: in training it counts as cut off.
        found = make_objects(boxes, labels, None, flags["is_crowd"], flags["is_difficult"], area)
        if OBJECT_MASKS not in self.fields:
            return found
        (instances,) = feature.get(_INSTANCES) or [b""]
        if not instances:
            raise ValueError("the record has no map of objects")
        numbers = tuple(range(1, len(labels) + 1))
        return found._replace(outlines=numbers, instances=memoryview(instances))


def box_records(
    records: Records,
    features: Mapping[str, Any],
    name: str,
    where: str,
    most: int,
    masks: bool = False,
) -> RecordSource:
    """A split whose images have objects.

    Args:
      records: of the split.
      features: of TFDS.
      name: of the split, for messages.
      where: the data set is, for messages.
      most, masks: see `objects.object_fields`.

    Raises:
      DataError: if it has no objects with boxes and classes, or no masks that are asked for.
    """
    things = getattr(features.get(_OBJECTS), "feature", None)
    parts = dict(things) if isinstance(things, tfds.features.FeaturesDict) else {}
    label = next((key for key in _LABELS if getattr(parts.get(key), "names", None)), "")
    if "image" not in features or not label or "bbox" not in parts:
        raise DataError(
            f"{where} has the features {', '.join(features)}; image and objects with bbox and "
            "label are needed"
        )
    if masks and not isinstance(features.get(_INSTANCES), tfds.features.Image):
        raise DataError(
            f"{where} has the features {', '.join(features)}; masks need {_INSTANCES}, an image "
            "with the number of the object of each pixel"
        )
    return _BoxRecordSource(records, tuple(parts[label].names), name, label, most, masks)

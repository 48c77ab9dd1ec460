"""TFDS data sets whose images have objects with boxes: coco, voc, scenes and their like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.objects import BOXES, Objects, make_objects, object_fields
from imagenet_jax.data.sources.records import Records, RecordSource
from imagenet_jax.data.sources.source import ImpossibleValue
from imagenet_jax.errors import DataError

_OBJECTS = "objects"
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
    ):
        super().__init__(records, class_names, name, reads=())
        self.fields = object_fields(most)
        self._label = f"{_OBJECTS}/{label}"

    def read(self, index: np.ndarray) -> tuple[list[memoryview], dict[str, list[Objects]]]:
        features = [parse_example(record) for record in self._records.get(index)]
        try:
            images = [memoryview(feature["image"][0]) for feature in features]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("the record has no image") from error
        return images, {BOXES: [self._objects(feature) for feature in features]}

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
        return make_objects(boxes, labels, None, flags["is_crowd"], flags["is_difficult"], area)


def box_records(
    records: Records, features: Mapping[str, Any], name: str, where: str, most: int
) -> RecordSource:
    """A split whose images have objects.

    Args:
      records: of the split.
      features: of TFDS.
      name: of the split, for messages.
      where: the data set is, for messages.
      most: objects of an image, see `objects.object_fields`.

    Raises:
      DataError: if it has no objects with boxes and classes.
    """
    things = getattr(features.get(_OBJECTS), "feature", None)
    parts = dict(things) if isinstance(things, tfds.features.FeaturesDict) else {}
    label = next((key for key in _LABELS if getattr(parts.get(key), "names", None)), "")
    if "image" not in features or not label or "bbox" not in parts:
        raise DataError(
            f"{where} has the features {', '.join(features)}; image and objects with bbox and "
            "label are needed"
        )
    return _BoxRecordSource(records, tuple(parts[label].names), name, label, most)

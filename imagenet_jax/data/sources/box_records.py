"""TFDS data sets whose images have objects with boxes: coco, voc, scenes and their like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.objects import BOXES, Objects, make_objects, object_fields
from imagenet_jax.data.sources.outlines import OBJECT_MASKS, Outline, run_lengths
from imagenet_jax.data.sources.records import Records, RecordSource
from imagenet_jax.data.sources.source import ImpossibleValue
from imagenet_jax.errors import DataError

OBJECTS = "objects"
# Which pixels are of an object: its number, from 1 on, in an image; or COCO's run lengths with it,
# and beside the image its height and width.
_INSTANCES, OUTLINE, SIDES = "instances", "outline", ("height", "width")
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
        has_outlines: bool,
    ):
        super().__init__(records, class_names, name, reads=())
        self.fields = object_fields(most, masks)
        self._label, self._has_outlines = f"{OBJECTS}/{label}", has_outlines

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
        corners = np.array(feature.get(f"{OBJECTS}/bbox", ()), np.float64)
        if corners.size != 4 * len(labels):
            raise ValueError(f"it has {corners.size} numbers of boxes for {len(labels)} labels")
        for label in labels:
            if not 0 <= label < len(self.class_names):
                raise ImpossibleValue(f"label {label} is none of 0 to {len(self.class_names) - 1}")
        # TFDS has top, left, bottom, right.
        boxes = np.clip(corners.reshape(-1, 4)[:, [1, 0, 3, 2]], 0, 1)
        flags = {
            name: feature.get(f"{OBJECTS}/{name}") or [0] * len(labels)
            for name in ("is_crowd", "is_difficult")
        }
        area = feature.get(f"{OBJECTS}/area") or [np.nan] * len(labels)
        # What has no area is kept: in training it counts as cut off.
        found = make_objects(boxes, labels, None, flags["is_crowd"], flags["is_difficult"], area)
        if OBJECT_MASKS not in self.fields:
            return found
        if self._has_outlines:
            return found._replace(outlines=self._outlines(feature, len(labels)))
        (instances,) = feature.get(_INSTANCES) or [b""]
        if not instances:
            raise ValueError("the record has no map of objects")
        numbers = tuple(range(1, len(labels) + 1))
        return found._replace(outlines=numbers, instances=memoryview(instances))

    def _outlines(self, feature: Mapping[str, Sequence[Any]], count: int) -> tuple[Outline, ...]:
        sides = tuple(int(feature[name][0]) for name in SIDES)
        texts = list(feature.get(f"{OBJECTS}/{OUTLINE}", ()))
        found = tuple(run_lengths({"size": sides, "counts": bytes(t)}, sides) for t in texts)
        if len(found) != count or None in found:
            raise ValueError(f"it has {len(texts)} outlines of {count} objects, or a damaged one")
        return found


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
    things = getattr(features.get(OBJECTS), "feature", None)
    parts = dict(things) if isinstance(things, tfds.features.FeaturesDict) else {}
    label = next((key for key in _LABELS if getattr(parts.get(key), "names", None)), "")
    if "image" not in features or not label or "bbox" not in parts:
        raise DataError(
            f"{where} has the features {', '.join(features)}; image and objects with bbox and "
            "label are needed"
        )
    has_outlines = OUTLINE in parts and {*SIDES} <= {*features}
    if masks and not (has_outlines or isinstance(features.get(_INSTANCES), tfds.features.Image)):
        raise DataError(
            f"{where} has the features {', '.join(features)}; masks need {_INSTANCES}, an image "
            f"with the number of the object of each pixel, or {OBJECTS} with an {OUTLINE} each"
        )
    how = label, most, masks, has_outlines
    return _BoxRecordSource(records, tuple(parts[label].names), name, *how)

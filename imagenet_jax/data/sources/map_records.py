"""TFDS data sets whose images have maps of classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.sources.classes import SEGMENTATION
from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.map_classes import NO_CLASS
from imagenet_jax.data.sources.masks import FIELD
from imagenet_jax.data.sources.records import Records, RecordSource
from imagenet_jax.errors import DataError


class Map(NamedTuple):
    """The feature with the maps, the names of the classes, and which level each of them has."""

    feature: str
    class_names: tuple[str, ...]
    levels: Sequence[int]

    @property
    def table(self) -> bytes:
        """As of `source.Field`."""
        table = np.full(256, NO_CLASS, np.uint8)  # levels that are no classes by design
        table[list(self.levels)] = np.arange(len(self.levels))
        return table.tobytes()


# Whose features do not say which levels are classes.
_KNOWN = {
    "oxford_iiit_pet": Map("segmentation_mask", ("pet", "background", "border"), (1, 2, 3)),
    "scene_parse150": Map("annotation", tuple(map(str, range(1, 151))), range(1, 151)),
    "cityscapes": Map(
        "segmentation_label",
        (
            *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light"),
            *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
            *("bus", "train", "motorcycle", "bicycle"),
        ),
        (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
    ),
}
_IMAGES = {"cityscapes": "image_left"}


class _MapRecordSource(RecordSource):
    """A split of records with an image and a map; see `source.EncodedSource`."""

    def __init__(self, records: Records, found: Map, image: str, name: str):
        super().__init__(records, found.class_names, name, reads=())
        count = len(found.class_names)
        plain = list(found.levels) == list(range(count))
        table = b"" if plain else found.table
        self.fields = {SEGMENTATION: FIELD._replace(table=table, most=count)}
        self._image, self._map = image, found.feature

    def read(self, index: np.ndarray) -> tuple[list[memoryview], dict[str, list[memoryview]]]:
        features = [parse_example(record) for record in self._records.get(index)]
        try:
            images, maps = (
                [memoryview(feature[key][0]) for feature in features]
                for key in (self._image, self._map)
            )
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the record has no {self._image} and {self._map}") from error
        return images, {SEGMENTATION: maps}


def map_records(
    records: Records, dataset: str, features: Mapping[str, Any], name: str, where: str
) -> RecordSource:
    """A split whose images have maps.

    Args:
      records: of the split.
      dataset: its name in TFDS.
      features: of TFDS.
      name: of the split, for messages.
      where: the data set is, for messages.

    Raises:
      DataError: if it has no maps of classes.
    """
    found = _KNOWN.get(dataset) or next(
        (
            Map(key, tuple(feature.names), range(feature.num_classes))
            for key, feature in features.items()
            if isinstance(feature, tfds.features.LabeledImage)
        ),
        None,
    )
    image = _IMAGES.get(dataset, "image")
    if found is None or not {image, found.feature} <= set(features):
        raise DataError(
            f"{where} has the features {', '.join(features)}; an image and a map of classes are "
            "needed (LabeledImage)"
        )
    return _MapRecordSource(records, found, image, name)

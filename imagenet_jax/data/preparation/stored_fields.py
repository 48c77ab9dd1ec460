"""What is stored of an example beside its image: labels, objects or a map of classes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from imagenet_jax.data.images.class_map import decode_map
from imagenet_jax.data.preparation.stored_objects import object_features, stored_objects
from imagenet_jax.data.sources.box_records import OBJECTS, OUTLINE, SIDES
from imagenet_jax.data.sources.classes import SEGMENTATION, SEVERAL, numbers_of
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.source import Field


class Known(NamedTuple):
    """What is known of an example.

    Attributes:
      labels: numbers of its classes; of objects, one each; of a map, those that it has.
      fields: what TFDS's features are given.
      areas: of its objects, in pixels of what is stored.
      size: about how many bytes its map or outlines take.
    """

    labels: tuple[int, ...]
    fields: Mapping[str, Any]
    areas: tuple[float, ...] = ()
    size: int = 0


def field_features(
    class_names: Sequence[str], reads: Sequence[str]
) -> dict[str, tfds.features.FeatureConnector]:
    """TFDS's features of what a task reads, see `tasks.Task.reads`."""
    names = list(class_names)
    if SEGMENTATION in reads:
        how = {"shape": (None, None, 1), "encoding_format": "png"}
        return {SEGMENTATION: tfds.features.LabeledImage(labels=names, **how)}
    if BOXES in reads:
        sides = {name: tfds.features.Scalar(np.int32) for name in SIDES}
        has_masks = OBJECT_MASKS in reads
        return {OBJECTS: object_features(names, has_masks), **(sides if has_masks else {})}
    label = tfds.features.ClassLabel(names=names)
    return {reads[0]: tfds.features.Sequence(label) if SEVERAL in reads else label}


def known_fields(
    values: Mapping[str, Sequence[Any]],
    fields: Mapping[str, Field],
    reads: Sequence[str],
    shape: tuple[int, int],
    size: tuple[int, int],
) -> Known:
    """Of the first of some examples.

    Args:
      values: as a source reads them.
      fields: of the source.
      reads: see `field_features`.
      shape: height and width of its image.
      size: those of what is stored of it.

    Raises:
      ValueError, OSError: for what is not of such an image, or a map with a level that is no class.
    """
    if SEGMENTATION in reads:
        levels = _levels(values[SEGMENTATION][0], fields[SEGMENTATION], shape)
        there = np.setdiff1d(np.unique(levels), [fields[SEGMENTATION].padding])
        file = io.BytesIO()
        smaller = Image.fromarray(levels).resize(size[::-1], Image.Resampling.NEAREST)
        smaller.save(file, "PNG")
        bytes_stored = file.tell()
        file.seek(0)
        return Known(tuple(there.tolist()), {SEGMENTATION: file}, size=bytes_stored)
    if BOXES in reads:
        objects = values[BOXES][0]
        things, areas = stored_objects(objects, shape, size)
        sides = dict(zip(SIDES, size, strict=True)) if OBJECT_MASKS in reads else {}
        outlines = sum(len(thing.get(OUTLINE, b"")) for thing in things)
        return Known(tuple(objects.labels.tolist()), {OBJECTS: things, **sides}, areas, outlines)
    labels = numbers_of(values, 0)
    return Known(labels, {reads[0]: list(labels) if SEVERAL in reads else labels[0]})


def _levels(file: bytes | memoryview, field: Field, shape: tuple[int, int]) -> np.ndarray:
    """The numbers of the classes uint8 [H, W], 255 of none."""
    levels = decode_map(file, shape, "its map of classes")
    if field.table:
        levels = np.frombuffer(field.table, np.uint8)[levels]
    if (wrong := levels[(levels >= field.most) & (levels != field.padding)]).size:
        raise ValueError(f"level {wrong[0]} of its map of classes is none of 0 to {field.most - 1}")
    return levels

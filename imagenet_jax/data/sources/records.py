"""Data sets in TFDS's format: array_record or tfrecord files with random access."""

import contextlib
import difflib
import functools
import importlib
import io
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python import array_record_module

from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.names import resolved_dir, split_there
from imagenet_jax.data.sources.classes import ONE, SEGMENTATION, SEVERAL, class_field
from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.layout import LeftOut
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.source import ImpossibleValue
from imagenet_jax.data.sources.tfrecord import TFRecords, most_open_files
from imagenet_jax.errors import DataError
from imagenet_jax.terminal import giving_way, working


class Records(Protocol):
    """Random access to serialized records."""

    def __len__(self) -> int: ...

    def get(self, index: Sequence[int]) -> list[bytes | memoryview]:
        """The records of these numbers."""

    def where(self, number: int) -> str:
        """The file and the place of a record, for a message."""


class ArrayRecords:
    """The records of parts of array_record files; see `Records`.

    It reads as array_record's own data source does, but without a thread pool for each call,
    which takes three quarters of the time. The text of an error names the damaged byte.
    """

    def __init__(self, parts: Sequence[tuple[str, int, int]]):
        """Takes `take` records after the first `skip` of each (path, skip, take)."""
        self._parts = parts
        self._ends = np.cumsum([take for _, _, take in parts])
        self._open = functools.lru_cache(maxsize=most_open_files())(_open_array_record)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def get(self, index: Sequence[int]) -> list[bytes]:
        places = [self._place(int(number)) for number in index]
        records: dict[tuple[int, int], bytes] = {}
        for shard in {shard for shard, _ in places}:
            positions = [position for other, position in places if other == shard]
            found = self._open(self._parts[shard][0]).read(positions)
            records |= zip(((shard, p) for p in positions), found, strict=True)
        return [records[place] for place in places]

    def where(self, number: int) -> str:
        shard, position = self._place(number)
        return f"{self._parts[shard][0]}, record {position}"

    def _place(self, number: int) -> tuple[int, int]:
        """The number of its file, and its place there."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        _, skip, take = self._parts[shard]
        return shard, skip + number - int(self._ends[shard]) + take


class FeatureNames(NamedTuple):
    """What the features of a record are called."""

    image: str = "image"
    label: str = "label"
    file_name: str = "file_name"
    first_label: int = 0  # the number of the first class
    hint: str = ""  # what to do about a label that is no class


TFDS_FEATURES = FeatureNames()
_REAL = "real_label"  # what imagenet2012_real calls the labels of an image


class RecordSource:
    """A split of records with an image and a label; see `source.EncodedSource`."""

    def __init__(
        self,
        records: Records,
        class_names: tuple[str, ...],
        name: str,
        features: FeatureNames = TFDS_FEATURES,
        reads: Sequence[str] = (ONE,),
    ):
        """`name` stands for the split in messages; `reads` as of `files.open_files`."""
        self._records, self.class_names, self._name = records, class_names, name
        self._features = features
        self._classes = class_field(reads, len(class_names), name)
        self.fields = self._classes.fields
        self.split, self.left_out = "", LeftOut()

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: np.ndarray) -> tuple[list[bytes], dict[str, np.ndarray]]:
        keys = self._features
        features = [parse_example(record) for record in self._records.get(index)]
        try:
            images = [memoryview(feature[keys.image][0]) for feature in features]  # no numbers
            labels = [[n - keys.first_label for n in feature[keys.label]] for feature in features]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the record has no {keys.image} and {keys.label}") from error
        try:
            return images, self._classes.values(labels)
        except ImpossibleValue as error:
            raise ImpossibleValue(f"{error}{keys.hint}") from error

    def name(self, index: int) -> str:
        """The example's file name, if its record has one, else its number."""
        (record,) = self._records.get([index])
        value, *_ = parse_example(record).get(self._features.file_name) or [int(index)]
        # In any encoding: what is no UTF-8 reads \xe9, so that different names stay different.
        return str(value) if isinstance(value, int) else str(value, "utf-8", "backslashreplace")

    def describe(self, index: int) -> str:
        place = f"{self._name}, example {index} in {self._records.where(index)}"
        try:
            return f"{place} ({self.name(index)})"
        except Exception:  # the record itself is damaged
            return place


def _open_array_record(path: str) -> array_record_module.ArrayRecordReader:
    reader = array_record_module.ArrayRecordReader(
        path, "readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=32_768
    )
    if not reader.ok():
        raise DataError(f"{path} is damaged, cut short or no array_record file")
    return reader


def open_records(
    name: str,
    data_dir: str,
    split: str,
    reads: Sequence[str] = (ONE,),
    default: bool = False,
    most: int = 100,
) -> RecordSource:
    """Opens a split (also a slice, "train[:90%]") of a TFDS data set, preparing the set first.

    `digits` comes with scikit-learn; others are downloaded, if TFDS can, or built from files
    in DATA_DIR/downloads/manual: for `imagenet2012` the archives ILSVRC2012_img_train.tar and
    ILSVRC2012_img_val.tar.

    Raises:
      DataError: if there is no such data set or split, if it cannot be prepared, or if its images
        have no classes, or not those that `reads` asks for (see `files.open_files`, `default` too;
        `most`: objects of an image).
    """
    data_dir = resolved_dir(data_dir)
    builder = find_builder(name, data_dir)
    if not builder.is_prepared() and (other := _other_version(builder)):
        logging.warning(
            "%s is not in %s; taking the version %s that is there",
            *(builder.info.full_name, data_dir, other.name),
        )
        builder = tfds.builder_from_directory(other)
    elif not builder.is_prepared():
        prepare_builder(builder)
        builder = find_builder(name, data_dir)
    return split_source(builder, split_there(split, builder.info.splits, default), reads, most)


def _other_version(builder: tfds.core.DatasetBuilder) -> Path | None:
    """The folder of the newest version of a data set that is stored instead of the builder's."""
    folders = Path(builder.data_dir).parent.glob("*.*.*/dataset_info.json")
    versions = {tfds.core.Version(file.parent.name): file.parent for file in folders}
    return versions[max(versions)] if versions else None


# Made here: the file beside this one, and the class there.
_OWN = {
    "digits": ("digits", "Digits"),
    "digit_pairs": ("digits", "DigitPairs"),
    "scenes": ("scenes", "Scenes"),
}


def is_tfds_name(name: str) -> bool:
    """Whether it is a data set that TFDS, or this package, makes."""
    return name in _OWN or name in tfds.list_builders(with_community_datasets=False)


def find_builder(
    name: str, data_dir: str, file_format: str = "array_record"
) -> tfds.core.DatasetBuilder:
    """The builder of a data set that is stored in data_dir, or to be stored in a format.

    Raises:
      DataError: if TFDS knows no such data set and none is stored there.
    """
    stored = [p.name for p in Path(data_dir).glob("*") if any(p.glob("**/dataset_info.json"))]
    known = [*_OWN, *stored, *tfds.list_builders(with_community_datasets=False)]
    if re.split("[/:]", name)[0] not in known:  # TFDS would look for it in the cloud
        near = difflib.get_close_matches(name, known, n=3)
        raise DataError(
            f"there is no data set {name!r} in {data_dir} (it has {', '.join(stored) or 'none'}), "
            f"and TFDS cannot make it" + (f"; near are {', '.join(near)}" if near else "")
        )
    if name in _OWN:
        file, class_name = _OWN[name]
        make = getattr(importlib.import_module(f"imagenet_jax.data.sources.{file}"), class_name)
    else:
        make = functools.partial(tfds.builder, name)
    try:
        return make(data_dir=data_dir, file_format=file_format)
    except ValueError:  # it is stored in another format
        return make(data_dir=data_dir)


def split_source(
    builder: tfds.core.DatasetBuilder, split: str, reads: Sequence[str] = (ONE,), most: int = 100
) -> RecordSource:
    """A split of a prepared data set. Raises DataError; see `open_records`."""
    info = builder.info
    where = f"{info.full_name} in {builder.data_dir}"
    split = split_there(split, info.splits)
    try:
        instructions = info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        has = ", ".join(info.splits)
        raise DataError(f"{where} has no split {split!r}; it has {has}") from error
    if not instructions:
        raise DataError(f"{where}: split {split!r} is empty")
    features = dict(info.features or {})
    if not {SEGMENTATION, BOXES} & {*reads}:
        label, names = _class_feature(features, reads, where)
    parts = [(str(part.filename), part.skip, part.take) for part in instructions]
    missing = [path for path, _, _ in parts if not tf.io.gfile.exists(path)]
    if missing:
        raise DataError(f"{where} lacks {len(missing)} of {len(parts)} files: {missing[0]}")
    kinds = {"array_record": ArrayRecords, "tfrecord": TFRecords}
    kind = info.file_format.value
    if kind not in kinds:
        raise DataError(f"{where} is stored as {kind}; {' and '.join(kinds)} can be read")
    records, name = kinds[kind](parts), f"{info.full_name}, split {split}"
    if SEGMENTATION in reads:
        from imagenet_jax.data.sources.map_records import map_records

        source = map_records(records, builder.name, features, name, where)
    elif BOXES in reads:
        from imagenet_jax.data.sources.box_records import box_records

        source = box_records(records, features, name, where, most, OBJECT_MASKS in reads)
    else:
        source = RecordSource(records, names, name, TFDS_FEATURES._replace(label=label), reads)
    source.split = split
    return source


def _class_feature(
    features: Mapping[str, Any], reads: Sequence[str], where: str
) -> tuple[str, tuple[str, ...]]:
    """The feature that says an image's class or classes, and their names.

    Where a task reads several labels, an image of a set that has one for each has that one.
    """
    names = {}
    for name in (SEVERAL, _REAL) if SEVERAL in reads else ():
        names[name] = getattr(getattr(features.get(name), "feature", None), "names", None)
    names[ONE] = getattr(features.get(ONE), "names", None)
    found = next((name for name in names if names[name]), None)
    if "image" not in features or not found:
        has, needed = ", ".join(features), "labels or label" if SEVERAL in reads else ONE
        raise DataError(f"{where} has the features {has}; image and {needed} (classes) are needed")
    return found, tuple(names[found])


def prepare_builder(builder: tfds.core.DatasetBuilder, manual_dir: str | None = None) -> None:
    """Lets TFDS download and write a data set.

    TFDS writes under another name first. Killed, it keeps its downloads and starts writing anew.

    Raises:
      DataError: if it cannot be made, e.g. because archives are missing.
    """
    name, data_dir = builder.name, builder._data_dir_root
    folder = Path(manual_dir or Path(data_dir) / "downloads" / "manual")
    archives = [folder / f"ILSVRC2012_img_{part}.tar" for part in ("train", "val")]
    if name == "imagenet2012" and not all(archive.exists() for archive in archives):
        raise DataError(
            f"imagenet2012 is not in {data_dir} (data.dir). To build it there, get "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
            f"https://image-net.org/download-images, put both into {folder} and run the "
            "same command again; or set data.dir to where it was prepared"
        )
    options = tfds.download.DownloadConfig(manual_dir=manual_dir) if manual_dir else None
    bars = sys.stderr.isatty() and bool(builder.info.download_size)
    tfds.display_progress_bar(bars)
    shown = giving_way() if bars else working(f"making {name} in {data_dir}")
    try:
        # It prints what is said here, and sizes that it does not know.
        with contextlib.redirect_stdout(io.StringIO()), shown:
            builder.download_and_prepare(download_config=options)
    except Exception as error:
        raise DataError(
            f"{name} is not in {data_dir} (data.dir) and preparing it failed: "
            f"{type(error).__name__}: {str(error)[:500]}"
        ) from error

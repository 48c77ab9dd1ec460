"""TFDS data sets, prepared by TFDS's own builders as array_record files with random access."""

import functools
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source

from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.errors import DataError


class RecordSource:
    """A split (also a slice, e.g. "train[:90%]") of a prepared TFDS data set."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        """Raises DataError for a split that does not exist."""
        info = builder.info
        try:
            self._files = info.splits[split].file_instructions
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{info.full_name} in {builder.data_dir} has no split {split!r}; "
                f"it has {', '.join(info.splits)}"
            ) from error
        if not self._files:
            raise DataError(f"{info.full_name} in {builder.data_dir}: split {split!r} is empty")
        self.class_names = tuple(info.features["label"].names)
        self._name = f"{info.full_name}, split {split}"
        self._records = array_record_data_source.ArrayRecordDataSource(self._files)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        records = self._records.__getitems__([int(i) for i in index])
        features = [tf.train.Example.FromString(record).features.feature for record in records]
        images = [feature["image"].bytes_list.value[0] for feature in features]
        labels = [feature["label"].int64_list.value[0] for feature in features]
        return images, np.array(labels, np.int32)

    def describe(self, index: int) -> str:
        record = tf.train.Example.FromString(self._records[int(index)])
        name = record.features.feature["file_name"].bytes_list.value
        return f"{self._name}, example {index}" + (f" ({name[0].decode()})" if name else "")


def open_records(name: str, data_dir: str, split: str) -> RecordSource:
    """Opens a data set, preparing it first if what it is made from is at hand.

    `digits` comes with scikit-learn, `cifar10` is downloaded, `imagenet2012` is built from
    the archives ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in
    DATA_DIR/downloads/manual.

    Raises:
      DataError: if it is neither prepared nor can be, or is not stored as array_record.
    """
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = os.path.expanduser(data_dir)
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        _prepare(builder, name, data_dir)
        builder = _builder(name, data_dir)
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(
            f"{name} in {builder.data_dir} is stored as {builder.info.file_format.value}, which "
            "has no random access. Prepare it as array_record: "
            f"tfds build {name} --file_format=array_record --data_dir=OTHER_DIR, "
            "and set data.dir to OTHER_DIR"
        )
    return RecordSource(builder, split)


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The builder of a data set that is stored, or to be stored as array_record."""
    if name == "digits":
        from imagenet_jax.data.digits import Digits as make
    else:
        make = functools.partial(tfds.builder, name)
    try:
        return make(data_dir=data_dir, file_format="array_record")
    except ValueError:  # it is stored in another format
        return make(data_dir=data_dir)


def _prepare(builder: tfds.core.DatasetBuilder, name: str, data_dir: str) -> None:
    manual_dir = Path(data_dir) / "downloads" / "manual"
    archives = [manual_dir / f"ILSVRC2012_img_{part}.tar" for part in ("train", "val")]
    if name == "imagenet2012" and not all(archive.exists() for archive in archives):
        raise DataError(
            f"imagenet2012 is not in {data_dir} (data.dir). To build it there, get "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
            f"https://image-net.org/download-images, put both into {manual_dir} and run the "
            "same command again; or set data.dir to where it was prepared"
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise DataError(
            f"{name} is not in {data_dir} (data.dir) and preparing it failed: "
            f"{type(error).__name__}: {str(error)[:500]}"
        ) from error

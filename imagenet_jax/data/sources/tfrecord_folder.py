"""ImageNet as TFRecords that TFDS did not write, the way it lies in many buckets.

The layout is that of tensorflow/tpu's imagenet_to_gcs.py and of Inception's build_imagenet_data.py:
DIR/train-00000-of-01024 or DIR/train/train-00000-of-01024, tf.train.Examples with image/encoded and
image/class/label, which is 1 to 1000 in the order of the synsets; 0 stands for a background class.
Other data sets in this layout (TF-Slim's) have DIR/labels.txt with the line NUMBER:NAME for each
class, from 0 on. Files may be empty, as writers leave those that they had nothing for, and must not
be compressed.
"""

import glob
import re
from collections.abc import Sequence

from imagenet_jax.data.host_tensorflow import tf
from imagenet_jax.data.names import split_there
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.data.sources.example_proto import parse_example
from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.data.sources.records import FeatureNames, RecordSource
from imagenet_jax.data.sources.tfrecord import TFRecords
from imagenet_jax.errors import DataError

_HINT = (
    ": labels of ImageNet's TFRecords are taken to be 1 to 1000; if they begin at 0 or are others, "
    "put a file labels.txt with a line NUMBER:NAME for each class, from 0 on, beside the records"
)
_SHARD = re.compile(
    r"(?:^|.*[_-])(?P<split>[^/_-]+)-(?P<shard>\d{5})-of-(?P<count>\d{5})(\.tfrecord)?(\.gz)?"
)


def open_tfrecord_folder(
    path: str, split: str, reads: Sequence[str] = (ONE,), default: bool = False
) -> RecordSource:
    """A split of `tfrecord:DIR`; `reads` and `default` as of `files.open_files`.

    Raises:
      DataError: if the split is not there, lacks shards, has no records or other features.
    """
    shards = _shards(path)
    split = split_there(split, shards, default)
    if split not in shards:
        splits = ", ".join(shards) or "none"
        raise DataError(
            f"data.name = 'tfrecord:{path}': no files {split}-?????-of-????? (splits found: "
            f"{splits}). Set data.train_split and data.eval_split"
        )
    records = TFRecords([(file, 0, -1) for file in _complete(path, split, shards[split])])
    names = _class_names(path)
    features = FeatureNames("image/encoded", "image/class/label", "image/filename")
    if not names:
        features = features._replace(first_label=1, hint=_HINT)
    where = f"{path}, split {split}"
    if not len(records):
        raise DataError(f"{where} has no records: its {len(records.empty)} files are empty")
    first = parse_example(records.get([0])[0])
    for name, kind, what in (
        (features.image, memoryview, "the bytes of an image file"),
        (features.label, int, "a whole number"),
    ):
        if not first.get(name) or not isinstance(first[name][0], kind):
            has = ", ".join(sorted(first)) or "no features"
            raise DataError(f"{where} has {has}; {name} is needed, {what}")
    source = RecordSource(records, names or SYNSETS, where, features, reads)
    source.split = split
    source.left_out = {"without records": records.empty} if records.empty else {}
    return source


def tfrecord_splits(path: str) -> list[str]:
    """The names of the splits of `tfrecord:DIR`."""
    return list(_shards(path))


def _shards(path: str) -> dict[str, dict[int, tuple[str, int]]]:
    """{split: {number of the shard: (file, how many there must be)}}."""
    files = [
        file
        for pattern in ("*-of-*", "*/*-of-*")
        for file in tf.io.gfile.glob(f"{glob.escape(path.rstrip('/'))}/{pattern}")
    ]
    shards: dict[str, dict[int, tuple[str, int]]] = {}
    for file in sorted(files):
        if match := _SHARD.fullmatch(file.rpartition("/")[2]):
            found = shards.setdefault(match["split"], {})
            # The first: before a compressed file of the same name.
            found.setdefault(int(match["shard"]), (file, int(match["count"])))
    return shards


def _complete(path: str, split: str, shards: dict[int, tuple[str, int]]) -> list[str]:
    """The files of a split in their order; all of them must be there."""
    count = max(of for _, of in shards.values())
    lacking = sorted(set(range(count)) - shards.keys())
    if lacking:
        raise DataError(
            f"{path}: split {split} lacks {len(lacking)} of {count} files: "
            f"{split}-{lacking[0]:05d}-of-{count:05d}"
        )
    return [shards[number][0] for number in sorted(shards)]


def _class_names(path: str) -> tuple[str, ...]:
    """The names of labels.txt; () without that file."""
    file = f"{path.rstrip('/')}/labels.txt"
    if not tf.io.gfile.exists(file):
        return ()
    with tf.io.gfile.GFile(file, "rb") as opened:
        content = opened.read()
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}") from error
    names = dict(line.split(":", 1) for line in lines if ":" in line)
    if len(names) < len(lines) or names.keys() != {str(k) for k in range(len(names))}:
        raise DataError(f"{file}: expected a line NUMBER:NAME for each class, from 0 on")
    return tuple(names[str(k)] for k in range(len(names)))

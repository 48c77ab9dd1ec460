"""`launch.py prepare`: builds a data set that trains fast, and says what is in it.

TFDS's own data sets are built by TFDS. Folders, archives, lists, and whatever is to be stored
smaller, are written by `build`. The result is a TFDS data set either way.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.atomic import replace_text
from imagenet_jax.data.names import (
    BOX_FILES,
    FILES,
    MASKS,
    check_name,
    check_preparation,
    place_of,
)
from imagenet_jax.data.preparation.build import (
    Build,
    Facts,
    check_disk,
    publish,
    run_build,
    run_shards,
    source_of,
    source_splits,
)
from imagenet_jax.data.preparation.shards import AS_THEY_ARE, Encoding, Shard
from imagenet_jax.data.preparation.verification import plot_sizes, report_of
from imagenet_jax.data.sources import records
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.data.sources.layout import LeftOut
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.split_checks import Counted, check_classes
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.terminal import working

FORMATS = ("array_record", "tfrecord")
REPORT = "verification.json"
_CHECKED_AT_ONCE = 1000


def prepare(
    dataset: str,
    *,
    data_dir: str = "",
    name: str = "",
    file_format: str = "",
    encoding: Encoding = AS_THEY_ARE,
    eval_fraction: float = 0.0,
    workers: int = 0,
    manual_dir: str = "",
    reads: tuple[str, ...] = (ONE,),
    rebuild: bool = False,
) -> dict[str, Any]:
    """Prepares and verifies a data set; what is there already is not made again unless asked.

    Args:
      dataset: the name of a TFDS data set, folder:PATH, zip:PATH or csv:PATH (see `files`),
        tfrecord:DIR (see `tfrecord_folder`), coco:PATH, voc:PATH or yolo:PATH (`box_files`), or
        masks:PATH (`masks`).
      data_dir: where TFDS data sets are kept; "": $TFDS_DATA_DIR or ~/tensorflow_datasets.
      name: of the new data set; "": made from `dataset` and `encoding`.
      file_format: "array_record" or "tfrecord"; "": array_record, but tfrecord for raw images,
        where a read costs 0.1 ms less CPU time.
      encoding: how images are stored.
      eval_fraction: share of the images of files without splits that become "validation".
      workers: processes; 0: one per core.
      reads: ("label",), or ("labels",) where images have several, see `files.open_files`;
        ("boxes",) where they have objects, ("boxes", "masks") where these have outlines,
        ("segmentation",) where they have maps of classes.
      manual_dir: where archives are that TFDS cannot download; "": DATA_DIR/downloads/manual.
      rebuild: make a data set of files anew, in the place of the one that is there.

    Returns:
      The report, see `verification.report_of`, with dataset, name, path and file_format. It is
      also kept in PATH/verification.json, with PATH/image_sizes.png.

    Raises:
      ConfigError: for arguments that cannot be.
      DataError: for a source that is missing or has changed since it was prepared, a disk that is
        too small, or a data set that another process prepares.
    """
    check_preparation(dataset, name, *dataclasses.astuple(encoding), eval_fraction)
    data_dir, splits = records.resolved_dir(data_dir), ()
    if not place_of(dataset):
        # What is only read again to be stored smaller may be in either format.
        asked = "" if encoding.short_side else file_format
        builder = _built_by_tfds(dataset, data_dir, manual_dir, asked)
        if not encoding.short_side:
            return _checked(dataset, builder, workers, reads)
        splits = tuple(builder.info.splits)
    name = _new_name(name or _default_name(dataset, encoding))
    file_format = file_format or ("tfrecord" if encoding.kind == "raw" else "array_record")
    build = Build(dataset, splits, data_dir, name, file_format, encoding, eval_fraction, reads)
    with _alone(build):
        with working(f"looking at {dataset}"):
            if build.path.exists() and not rebuild:
                return _finished(build)
            _check_classes(build)
        return _published(build, run_build(build, workers))


def _published(build: Build, facts: Facts) -> dict[str, Any]:
    """The report of a data set whose shards are written, in its place."""
    with working("summing up what was found"):
        about = _about(build, facts)
        class_names = source_of(build, next(iter(facts))).class_names
        report = _written(build.staging, about, facts, class_names)
        publish(build, facts, class_names, f"Prepared by imagenet_jax: {json.dumps(about)}")
    return report


def _check_classes(build: Build) -> None:
    """Raises DataError for files whose splits do not have the same classes, see `split_checks`."""
    if (place_of(build.spec) or [""])[0] not in (*FILES, *BOX_FILES):
        return
    sources = {split: source_of(build, split) for split in source_splits(build)}
    counted = [Counted(split, source.class_counts()) for split, source in sources.items()]
    train = next((one for one in counted if one.split.lower().startswith("train")), None)
    for other in counted if train else ():
        if other.split != train.split:
            source = sources[other.split]
            check_classes(source.class_names, train, other, one=ONE in source.fields)


def _new_name(name: str) -> str:
    """The name, if a data set can be called so. Raises ConfigError."""
    check_name(name)
    if records.is_tfds_name(name):
        raise ConfigError(
            f"--name={name} is a data set of TFDS's own, which data.name = {name!r} means; give "
            f"another, e.g. --name={name}_files"
        )
    return name


@contextlib.contextmanager
def _alone(build: Build) -> Iterator[None]:
    """Keeps this user's other processes here from preparing the same data set meanwhile."""
    which = hashlib.sha1(str(build.path.resolve()).encode()).hexdigest()[:16]
    lock = Path(tempfile.gettempdir()) / f"imagenet_jax-{os.getuid()}-{which}.lock"
    # Never through a link, which others could have put into the folder that all share.
    with open(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
        except OSError:
            raise DataError(f"another process is preparing {build.path}") from None
        yield


def _built_by_tfds(
    dataset: str, data_dir: str, manual_dir: str, file_format: str
) -> tfds.core.DatasetBuilder:
    builder = records.find_builder(dataset, data_dir, file_format or "array_record")
    info = builder.info
    if builder.is_prepared():
        stored = info.file_format.value
        if file_format and stored != file_format:
            raise ConfigError(
                f"--file_format={file_format}: {builder.data_dir} is stored as {stored} already; "
                "give another --dir, or remove it first"
            )
        return builder
    check_disk((info.download_size or 0) + (info.dataset_size or 0), Path(data_dir))
    records.prepare_builder(builder, manual_dir or None)
    return records.find_builder(dataset, data_dir)


def _checked(
    dataset: str, builder: tfds.core.DatasetBuilder, workers: int, reads: tuple[str, ...]
) -> dict[str, Any]:
    """The report of a data set that TFDS built, from a look at all its images."""
    path = Path(builder.data_dir)
    report = _read_report(path / REPORT) if (path / REPORT).exists() else {}
    # A report of another task's fields does not say what this one's are like.
    if "splits" in report and report.get("reads", [ONE]) == list(reads):
        return {**report, "name": dataset, "path": str(path)}
    sources = {split: records.split_source(builder, split, reads) for split in builder.info.splits}
    shards = [
        Shard(dataset, str(builder._data_dir_root), split, index, AS_THEY_ARE, None, reads)
        for split, source in sources.items()
        for index in np.array_split(np.arange(len(source)), -(-len(source) // _CHECKED_AT_ONCE))
    ]
    facts: Facts = {split: [] for split in sources}
    for shard, found in zip(shards, run_shards(shards, workers, "checking"), strict=True):
        facts[shard.split] += found
    about = {
        "dataset": dataset,
        "name": dataset,
        "path": str(path),
        "file_format": builder.info.file_format.value,
        "reads": list(reads),
    }
    return _written(path, about, facts, next(iter(sources.values())).class_names)


def _finished(build: Build) -> dict[str, Any]:
    """The report of a data set that is there, if it is the one that is asked for."""
    file = build.path / REPORT
    if not file.exists():
        raise ConfigError(f"{build.path} is there already and was not made by prepare; give --name")
    report = _read_report(file)
    if "dataset" not in report:
        raise ConfigError(f"{file} is damaged; --rebuild makes the data set anew")
    asked = _options(build)
    del asked["path"]  # a data set may be moved
    report.setdefault("reads", [ONE])  # as all were before there were others
    other = [f"{k} {report.get(k)!r}, not {asked[k]!r}" for k in asked if report.get(k) != asked[k]]
    if other:
        raise ConfigError(
            f"{build.path} was prepared otherwise: {'; '.join(other)}. Give another --name, or "
            "--rebuild"
        )
    now = _stamps(build)
    if report.get("source", now) != now:  # older reports have none
        raise DataError(
            f"{build.spec} has changed since {build.path} was prepared ({_sizes(report['source'])} "
            f"then, {_sizes(now)} now); --rebuild makes it anew, --name makes another"
        )
    return {**report, "path": str(build.path)}


def _read_report(file: Path) -> dict[str, Any]:
    """The content of a verification.json; {} if it is damaged."""
    try:
        report = json.loads(file.read_text())
    except (ValueError, RecursionError):
        report = None
    return report if isinstance(report, dict) else {}


def _about(build: Build, facts: Facts) -> dict[str, Any]:
    """What is kept of how a data set was made."""
    left_out: LeftOut = {}
    for split in facts if place_of(build.spec) else ():
        for reason, names in source_of(build, split).left_out.items():
            left_out[reason] = sorted({*left_out.get(reason, ()), *names})
    return {**_options(build), "source": _stamps(build), "left_out": left_out}


def _options(build: Build) -> dict[str, Any]:
    return {
        "dataset": build.spec,
        "name": build.name,
        "path": str(build.path),
        "file_format": build.file_format,
        "encoding": dataclasses.asdict(build.encoding),
        "eval_fraction": build.eval_fraction,
        "reads": list(build.reads),
    }


def _written(
    path: Path, about: dict[str, Any], facts: Facts, class_names: tuple[str, ...]
) -> dict[str, Any]:
    """The report, after it and its picture were written into the data set's folder."""
    report = {**about, **report_of(facts, class_names, BOXES in about.get("reads", ()))}
    plot_sizes(facts, about["name"], path / "image_sizes.png")
    replace_text(path / REPORT, json.dumps(report, indent=1) + "\n")
    return report


def _stamps(build: Build) -> dict[str, list[Any]]:
    """{split: [images, a hash of their names, sizes and classes]} of files."""
    if (place_of(build.spec) or [""])[0] not in (*FILES, *BOX_FILES, MASKS):
        return {}
    sources = {split: source_of(build, split) for split in source_splits(build)}
    return {split: [len(source), source.stamp()] for split, source in sources.items()}


def _sizes(stamps: dict[str, list[Any]]) -> str:
    return ", ".join(f"{split} {count:,}" for split, (count, _) in stamps.items())


def _default_name(dataset: str, encoding: Encoding) -> str:
    """After the folder or file: letters, digits and _, the first a letter."""
    place = place_of(dataset)
    stem = Path(place[1]).resolve().stem if place else re.split("[/:]", dataset)[0]
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not base:
        raise ConfigError(f"no name can be made of {stem!r}; give --name")
    base = base if base[0].isalpha() else f"data_{base}"
    size = f"_{encoding.short_side}" if encoding.short_side else ""
    return base + size + ("_raw" if encoding.kind == "raw" else "")

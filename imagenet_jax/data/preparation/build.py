"""Writes a data set shard by shard, with several processes.

A shard gets its name when it is complete, the data set when all shards are. So a run that was
killed goes on with the shards that are missing, and nobody reads half a data set.
"""

import dataclasses
import glob
import hashlib
import json
import re
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from imagenet_jax.data.names import BOX_FILES, FILES, MASKS, place_of
from imagenet_jax.data.preparation.shards import (
    Encoding,
    Fact,
    Shard,
    check_example,
    do_shard,
    facts_path,
    open_source,
)
from imagenet_jax.data.shuffle import permutation
from imagenet_jax.data.sources.box_files import box_splits
from imagenet_jax.data.sources.classes import ONE, SEGMENTATION
from imagenet_jax.data.sources.files import file_splits
from imagenet_jax.data.sources.held_out import name_shares
from imagenet_jax.data.sources.layout import DEFAULT_SPLIT
from imagenet_jax.data.sources.masks import mask_splits
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.tfrecord_folder import tfrecord_splits
from imagenet_jax.errors import DataError
from imagenet_jax.terminal import counting, say, working

VERSION = "1.0.0"
_SHARD_BYTES = 128 * 2**20
_SHARD_EXAMPLES = 500  # at least, where the data set is small
_SAMPLE = 200  # examples that the need of disk is estimated from
_RECORD_BYTES = 150  # of a record beside the image

Facts = dict[str, list[Fact]]


@dataclasses.dataclass(frozen=True)
class Build:
    """A data set to be written.

    Attributes:
      spec: folder:, zip:, csv: or tfrecord:PATH, or the name of a prepared TFDS data set.
      splits: of a TFDS data set; () for those that the files have.
      data_dir: where TFDS data sets are kept.
      name: of the new data set.
      file_format: "array_record" or "tfrecord".
      encoding: how images are stored.
      eval_fraction: share of the images of files without splits that become "validation".
      reads: ("label",), or ("labels",) where images have several, see `files.open_files`.
    """

    spec: str
    splits: tuple[str, ...]
    data_dir: str
    name: str
    file_format: str
    encoding: Encoding
    eval_fraction: float
    reads: tuple[str, ...] = (ONE,)

    @property
    def path(self) -> Path:
        return Path(self.data_dir) / self.name / VERSION

    @property
    def staging(self) -> Path:
        return self.path.with_name(f"incomplete.{VERSION}")


def run_build(build: Build, workers: int) -> Facts:
    """Writes what is missing of a data set, up to its last renaming, see `publish`.

    Returns:
      What is known of the examples of each split, unreadable ones included.

    Raises:
      DataError: if the disk is too small, or a split has no readable image.
    """
    with working(f"reading {build.spec}"):
        examples = split_examples(build)
        need = {split: _bytes_needed(build, split, index) for split, index in examples.items()}
        shards = {name: _shards(build, name, index, need[name]) for name, index in examples.items()}
        everything = [shard for of_split in shards.values() for shard in of_split]
        plan, plan_file = _plan(build, everything), build.staging / "plan.json"
    if build.staging.exists() and (not plan_file.exists() or plan_file.read_bytes() != plan):
        say(f"{build.staging} holds parts of something else and is removed")
        shutil.rmtree(build.staging)
    todo = [shard for shard in everything if not facts_path(shard.path).exists()]
    check_disk(sum(need.values()) * len(todo) / len(everything), Path(build.data_dir))
    build.staging.mkdir(parents=True, exist_ok=True)
    plan_file.write_bytes(plan)
    if len(todo) < len(everything):
        say(f"going on: {len(everything) - len(todo)} of {len(everything)} shards are there")
    run_shards(todo, workers, "writing")
    facts = {name: _facts(of_split) for name, of_split in shards.items()}
    for split, of_split in facts.items():
        if all(fact.error for fact in of_split):
            raise DataError(f"{build.spec}: split {split} has no readable image")
    return facts


def publish(build: Build, facts: Facts, class_names: tuple[str, ...], description: str) -> None:
    """Writes TFDS's metadata and gives the finished data set its name, instead of an older one."""
    split_infos = []
    for split, of_split in facts.items():
        files = sorted(build.staging.glob(glob.escape(f"{build.name}-{split}.") + "*.facts.json"))
        lengths = [sum(not f.error for f in _read_facts(file)) for file in files]
        size = sum(fact.size for fact in of_split)
        split_infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size))
    tfds.folder_dataset.write_metadata(
        data_dir=build.staging,
        features=build.encoding.features(class_names, build.reads),
        split_infos=split_infos,
        version=VERSION,
        check_data=False,
        description=description,
    )
    for pattern in ("*.facts.json", ".*.partial"):  # the latter of a process that was killed
        for file in build.staging.glob(pattern):
            file.unlink()
    (build.staging / "plan.json").unlink()
    old = build.path.with_name(f"old.{VERSION}")
    if build.path.exists():
        build.path.rename(old)
    build.staging.rename(build.path)
    shutil.rmtree(old, ignore_errors=True)


def split_examples(build: Build) -> dict[str, np.ndarray]:
    """The numbers of the examples of each split of the new data set, in random order."""
    splits = source_splits(build)
    if not splits:
        raise DataError(f"{build.spec}: no images in SPLIT/CLASS/IMAGE or CLASS/IMAGE")
    if build.eval_fraction and splits != (DEFAULT_SPLIT,):
        has = ", ".join(splits)
        raise DataError(f"--eval_fraction: {build.spec} has splits already: {has}")
    for split in splits:
        if not re.fullmatch(r"[\w-]+", split):
            raise DataError(
                f"{build.spec}: TFDS cannot keep the split {split!r}; rename it, with letters, "
                "digits, _ and - alone"
            )
    examples = {}
    for split in splits:
        source = source_of(build, split)
        order = permutation(0, 0, len(source))
        held_out = np.zeros(len(source), bool)
        if build.eval_fraction:
            held_out = name_shares(source.name(i) for i in order) < build.eval_fraction
            examples["validation"] = order[held_out]
        examples[split] = order[~held_out]
    for split, index in examples.items():
        if not len(index):
            raise DataError(
                f"--eval_fraction={build.eval_fraction:g} of {build.spec} leaves the split {split} "
                "without images"
            )
    return examples


def source_splits(build: Build) -> tuple[str, ...]:
    """The names of the splits that the source has."""
    place = place_of(build.spec)
    if build.splits or not place:
        return build.splits
    kind, path = place
    if kind in BOX_FILES:
        return tuple(box_splits(kind, path, OBJECT_MASKS in build.reads))
    if kind == MASKS:
        return tuple(mask_splits(path))
    return tuple(
        tfrecord_splits(path) if kind == "tfrecord" else file_splits(kind, path, build.reads)
    )


def check_disk(need: float, folder: Path) -> None:
    """Says what is needed and free; raises DataError where it does not fit."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    say(f"needs about {need / 1e9:,.3f} GB in {folder}; {free / 1e9:,.3f} GB are free")
    if need > 0.98 * free:
        raise DataError(
            f"{folder}: {need / 1e9:,.3f} GB are needed and {free / 1e9:,.3f} GB are free; make "
            "room, give another --dir, or store less with --resize"
        )


def run_shards(shards: Sequence[Shard], workers: int, what: str) -> list[list[Fact]]:
    """Does the shards, in this process or several, and shows how many images are done; facts in
    their order."""
    workers = min(workers or len(sched_getaffinity(0)), len(shards))
    with counting(what, sum(len(shard.index) for shard in shards)) as done:
        if workers <= 1:
            results = []
            for shard in shards:
                results.append(do_shard(shard))
                done(len(shard.index))
            return results
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _ignore_interrupts)
        try:
            futures = [pool.submit(do_shard, shard) for shard in shards]
            size_of = dict(zip(futures, map(lambda s: len(s.index), shards), strict=True))
            for future in as_completed(futures):
                future.result()
                done(size_of[future])
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise DataError(
                f"{what}: a worker was ended from outside, maybe for lack of memory; take fewer "
                "--workers: the same command goes on with what is missing"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _plan(build: Build, shards: Sequence[Shard]) -> bytes:
    """What a shard depends on; parts that were made from another plan do not fit."""
    names = hashlib.sha1()
    # They may have changed since, as records do not.
    if (place_of(build.spec) or [""])[0] in (*FILES, *BOX_FILES, MASKS):
        stamps: dict[str, str] = {}
        for shard in shards:
            source = open_source(shard.spec, shard.data_dir, shard.split, shard.reads)
            stamps[shard.split] = stamps.get(shard.split) or source.stamp()
            names.update(stamps[shard.split].encode())
            for index in shard.index:
                names.update(source.name(index).encode() + b"\0")
    files = [Path(shard.path).name for shard in shards]
    return json.dumps([dataclasses.asdict(build), files, names.hexdigest()]).encode()


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shows the bar


def _shards(build: Build, split: str, index: np.ndarray, size: float) -> list[Shard]:
    """A split in shards of about 128 MB, or in some more if it is small."""
    count = max(-(-int(size) // _SHARD_BYTES), min(16, -(-len(index) // _SHARD_EXAMPLES)))
    # Where no file has them, all maps are read for the names: once, not in each process.
    of_maps = SEGMENTATION in build.reads
    names = tuple(source_of(build, split).class_names) if of_maps else ()
    stem = f"{build.staging}/{build.name}-{split}.{build.file_format}"
    return [
        Shard(
            build.spec,
            build.data_dir,
            _source_split(build, split),
            part,
            build.encoding,
            f"{stem}-{number:05d}-of-{count:05d}",
            build.reads,
            names,
        )
        for number, part in enumerate(np.array_split(index, count))
    ]


def source_of(build: Build, split: str) -> Any:
    """Where the examples of a split of the new data set come from."""
    source = open_source(build.spec, build.data_dir, _source_split(build, split), build.reads)
    _check_class_names(build.spec, source.class_names)
    return source


def _check_class_names(spec: str, names: Sequence[str]) -> None:
    """Raises DataError for names that TFDS, which keeps one a line, would give back otherwise."""
    for name in names:
        if name != name.strip() or len(name.splitlines()) != 1:
            raise DataError(
                f"{spec}: TFDS cannot keep the class {name!r}; rename it, without line breaks and "
                "without spaces at its ends"
            )


def _source_split(build: Build, split: str) -> str:
    return DEFAULT_SPLIT if build.eval_fraction else split


def _bytes_needed(build: Build, split: str, index: np.ndarray) -> float:
    """An upper estimate from a sample: its mean and two standard errors."""
    source = source_of(build, split)
    sample = index[:_SAMPLE]
    how = build.encoding, build.reads
    sizes = np.array([check_example(source, int(i), *how)[0].size for i in sample])
    error = sizes.std() / len(sizes) ** 0.5 if len(sample) < len(index) else 0.0
    return len(index) * (sizes.mean() + 2 * error + _RECORD_BYTES)


def _facts(shards: Sequence[Shard]) -> list[Fact]:
    return [fact for shard in shards for fact in _read_facts(facts_path(shard.path))]


def _read_facts(path: Path) -> list[Fact]:
    try:
        facts = [Fact(*values) for values in json.loads(path.read_text())]
        return [f._replace(labels=tuple(f.labels), areas=tuple(f.areas)) for f in facts]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}. Remove it and start again") from error

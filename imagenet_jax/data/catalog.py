"""From a config to batches: which data set, how its images are made ready, in which order."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from imagenet_jax.data.landmarks import landmarks_of
from imagenet_jax.data.names import (
    BOX_FILES,
    FILES,
    MASKS,
    TEST,
    VALIDATION,
    check_data,
    names_default_splits,
    place_of,
    train_size,
    train_views,
)
from imagenet_jax.data.order import ChosenOrder, EvalOrder, Order
from imagenet_jax.data.sources.box_files import box_splits, open_boxes
from imagenet_jax.data.sources.classes import ONE, SEGMENTATION, class_field, labels_of
from imagenet_jax.data.sources.fake import FakeSource
from imagenet_jax.data.sources.files import file_splits, open_files
from imagenet_jax.data.sources.held_out import HeldOut
from imagenet_jax.data.sources.joined import joined
from imagenet_jax.data.sources.layout import left_out_text
from imagenet_jax.data.sources.masks import mask_splits, open_masks
from imagenet_jax.data.sources.objects import BOXES
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.data.sources.parts import slice_of, split_slice
from imagenet_jax.data.sources.source import ArraySource, EncodedSource
from imagenet_jax.data.split_parts import part_of, say_once
from imagenet_jax.data.training_order import training_order
from imagenet_jax.errors import DataError

if TYPE_CHECKING:  # it imports TensorFlow
    from imagenet_jax.data.pipeline import Pipeline


@dataclasses.dataclass
class Split:
    """One split of a data set, ready to be iterated over.

    With data.cache the first call for batches decodes the whole split.

    A batch is a dict of NumPy arrays with the rows that this process holds:
      image uint8 [b, S, S, 3] RGB, [b, views * S, S, 3] with data.views; the fields of the
      source, e.g. label int32 [b], -1 where it is hidden (data.labelled_share); mask bool [b],
      False for padding and for images that cannot be read; index int32 [b], the example's number in
      its split; epoch int32 [b], how often the example came up before.
    `unreadable` names the images that were skipped so far, {index: "NAME: reason"};
    label_map int32 [K] gives the labels of evaluation batches for those of the source; found is
    the split's name, where the data set calls it otherwise than the config does.
    """

    config: ml_collections.ConfigDict
    source: EncodedSource | ArraySource
    train: bool
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)
    label_map: np.ndarray | None = None
    found: str = ""

    def __post_init__(self) -> None:
        self.encoded = self.source  # also where `source` is decoded later

    @property
    def name(self) -> str:
        data = self.config.data
        if data.folds:
            name = self.found or data.train_split
            name = f"{name}, {'all but ' * self.train}fold {data.fold} of {data.folds}"
        else:
            name = self.found or (data.train_split if self.train else data.eval_split)
        if not data.held_out_classes:
            return name
        return f"{name}, {'all but ' * self.train}the held-out classes"

    @property
    def num_examples(self) -> int:
        return len(self.source)

    @property
    def num_classes(self) -> int:
        return len(self.source.class_names)

    def at(self, config: ml_collections.ConfigDict) -> "Split":
        """The same examples, made ready by the config of another stage of the run."""
        if config is self.config:
            return self
        if config.data.name == "fake":
            parts = getattr(self.source, "parts", None)
            reads = tuple(parts) if parts else tuple(self.source.fields)
            return open_split(config, self.train, reads)
        return dataclasses.replace(self, config=config, source=self.encoded)

    def train_batches(
        self, rows: np.ndarray, start: int, stop: int, offset: int = 0, epoch_offset: int = 0
    ) -> Iterator[dict]:
        """The batches of the steps start <= step < stop; `rows` of each global batch.

        The offsets are those of `order.TrainOrder`.
        """
        order = training_order(self, rows, offset, epoch_offset)
        return self._batches(order, start, stop)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """The one label of each example, int [N], see `labels_of`."""
        names = ("sampling", "per_class", "held_out_classes")
        set_fields = [f"data.{name}" for name in names if self.config.data[name]]
        return labels_of(self.encoded, ", ".join(set_fields) or self.config.task)

    def eval_batches(self, rows: np.ndarray, batch_size: int) -> Iterator[dict]:
        """Every example once in batches of `batch_size`, the last one padded."""
        order = EvalOrder(self.num_examples, batch_size, rows)
        for batch in self._batches(order, 0, order.num_steps):
            if self.label_map is not None:
                batch = {**batch, "label": self.label_map[batch["label"]]}
            yield batch

    def images(self, index: np.ndarray) -> np.ndarray:
        """The examples with these numbers as the model sees them, uint8 [n, S, S, 3]."""
        return self.examples(index)["image"]

    def examples(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """The examples with these numbers as a batch."""
        (batch,) = self._batches(ChosenOrder(index), 0, 1)
        return batch

    def example_name(self, index: int) -> str:
        """What an example is called within the split; its number, where images have no files."""
        name = getattr(self.encoded, "name", None)
        return name(index) if name else f"example {index}"

    @functools.cached_property
    def landmarks(self) -> np.ndarray | None:
        """Of each example, see `Preprocess`; None where the config does not align faces."""
        data = self.config.data
        if (data.train_crop if self.train else data.eval_crop) != "align":
            return None
        return landmarks_of(data, map(self.example_name, range(self.num_examples)), self.name)

    def _batches(self, order: Order, start: int, stop: int) -> Iterator[dict]:
        if self.config.data.cache and not hasattr(self.source, "arrays"):
            from imagenet_jax.data.sources.memory import decode_all

            self.encoded, self.source = self.source, decode_all(self.pipeline())
        if hasattr(self.source, "arrays"):
            return _array_batches(self.source, order, start, stop)
        return self.pipeline().batches(order, start, stop)

    def pipeline(self) -> "Pipeline":
        """The host pipeline of a split whose images are encoded."""
        from imagenet_jax.data.images.preprocess import Preprocess
        from imagenet_jax.data.pipeline import Pipeline

        config = self.config
        fill = np.round(255 * np.array(config.augment.mean)).clip(0, 255).astype(np.uint8)
        preprocess = Preprocess(config.data, config.seed, self.train, self.landmarks)
        return Pipeline(self.source, preprocess, fill, self.unreadable)


def open_split(
    config: ml_collections.ConfigDict, train: bool, reads: Sequence[str] = (ONE,)
) -> Split:
    """Opens the training or the evaluation split that the config names.

    Args:
      config: see `schema.SCHEMA`.
      train: which of the two.
      reads: the fields of a batch that the task needs, see `tasks.Task.reads`; of several tasks a
        tuple of these.

    Raises:
      ConfigError: for a data.name of no known form.
      DataError: for a data set that is missing or cannot be read.
    """
    data = config.data
    check_data(data)
    split = part_of(_open(config, train or data.folds > 0, reads), train)
    _ = split.landmarks  # before anything starts, it says which are lacking
    return split


def _open(config: ml_collections.ConfigDict, train: bool, reads: Sequence[str]) -> Split:
    """The whole split. A line of the log says what is left out, and if it is called otherwise."""
    if reads and not isinstance(reads[0], str):  # of several tasks
        parts = {part: _open(config, train, part) for part in reads}
        first = parts[reads[0]]
        sources = {part: split.source for part, split in parts.items()}
        return Split(config, joined(sources), train, found=first.found)
    data = config.data
    split = data.train_split if train else data.eval_split
    default = names_default_splits(data)
    kind, path = place_of(data.name) or ("", "")
    if data.name == "fake":
        count = data.fake_train_examples if train else data.fake_eval_examples
        others = [name for name in (OBJECT_MASKS, SEGMENTATION, BOXES) if name in reads]
        name = class_field(() if others else reads, data.fake_classes, "data.name = fake").name
        name = others[0] if others else name
        size = train_size(data) if train else data.image_size
        height = train_views(data)[0] if train else size
        source = FakeSource(
            count, data.fake_classes, size, reads=name, height=height, most=data.max_objects
        )
        return Split(config, source, train)
    name, cut = split_slice(split) if kind in (*FILES, MASKS, *BOX_FILES) else (split, None)
    if kind in FILES:
        source = open_files(kind, path, name, reads, default)
    elif kind == MASKS:
        source = open_masks(path, name, reads, default)
    elif kind in BOX_FILES:
        source = open_boxes(kind, path, name, reads, default, data.max_objects)
    elif kind == "tfrecord":
        from imagenet_jax.data.sources.tfrecord_folder import open_tfrecord_folder

        source = open_tfrecord_folder(path, name, reads, default)
    else:
        source = _open_records(data, name, reads, default)
    found = source.split + split[len(name) :]
    if isinstance(source, HeldOut):
        say_once(f"{data.name}: {source.about}")
    elif found != split:
        say_once(f"{data.name} has no split {split!r}: {found!r} stands for it")
    if left_out := left_out_text(source.left_out):
        say_once(f"{data.name}: left out: {left_out}")
    return Split(config, slice_of(source, cut) if cut else source, train, found=found)


def evaluation_split(name: str, data_dir: str = "") -> str:
    """The split of a data set that one would evaluate on: validation, test, or the only one.

    Args:
      name: as config.data.name.
      data_dir: as config.data.dir.

    Raises:
      DataError: if there is no such data set, or it has several other splits.
    """
    kind, path = place_of(name) or ("", "")
    if kind in FILES:
        splits = file_splits(kind, path)
    elif kind == MASKS:
        splits = mask_splits(path)
    elif kind in BOX_FILES:
        splits = box_splits(kind, path)
    elif kind == "tfrecord":
        from imagenet_jax.data.sources.tfrecord_folder import tfrecord_splits

        splits = tfrecord_splits(path)
    elif name == "fake":
        splits = ["validation"]
    else:
        from imagenet_jax.data.sources import records

        splits = list(records.find_builder(name, records.resolved_dir(data_dir)).info.splits)
    found = [split for name in (*VALIDATION, *TEST) for split in splits if split.lower() == name]
    if not found and len(splits) > 1:
        raise DataError(f"{name} has the splits {', '.join(splits)}; choose one with --split")
    return (found or splits or ["validation"])[0]


def _open_records(
    data: ml_collections.ConfigDict, split: str, reads: Sequence[str], default: bool
) -> EncodedSource:
    """Process 0 prepares what is missing while the others wait."""
    from imagenet_jax.data.sources import records

    arguments = data.name, data.dir, split, reads, default, data.max_objects
    try:
        if jax.process_index() == 0:
            source = records.open_records(*arguments)
    finally:
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"prepared {data.name} {split}")
    if jax.process_index() != 0:
        source = records.open_records(*arguments)
    return source


def _array_batches(source: ArraySource, order: Order, start: int, stop: int) -> Iterator[dict]:
    for step in range(start, stop):
        index, epoch, mask = order(step)
        image, values, readable = source.arrays(np.where(mask, index, 0))
        for name, field in source.fields.items():
            values[name][~mask] = field.padding
        yield {"image": image, **values, "mask": mask & readable, "index": index, "epoch": epoch}

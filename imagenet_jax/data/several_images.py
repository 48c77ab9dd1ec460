"""Training images that are made of several: which ones, and the making."""

import dataclasses

import ml_collections
import numpy as np

from imagenet_jax.data.images.boxes import uniforms
from imagenet_jax.data.images.copy_paste import copy_paste
from imagenet_jax.data.images.mosaic import DRAWS, PARTS, mosaic
from imagenet_jax.data.images.object_rows import Example, example_of, put_into
from imagenet_jax.data.order import LATER, Rows

Arrays = dict[str, np.ndarray]

_STREAM = 0x6D6F7361  # apart from the random numbers of crops
_CHOSEN = 0.5  # share of the objects that are pasted
# Of the random numbers of a row: whether there is a mosaic and a paste, those of a mosaic; from the
# last on one for each other image, then one for each object.
_MOSAIC, _PASTE, _PARTS, _OTHERS = 0, 1, slice(2, 2 + DRAWS), 2 + DRAWS


@dataclasses.dataclass(frozen=True)
class SeveralImages:
    """Mosaics and pasted objects, as config.data says; a function of seed, epoch and index.

    Attributes:
      data: config.data.
      seed: of the run.
      count: examples of the split.
      maps: fields of it that are maps of pixels.
      train: whether it is of training: there are none in evaluation.
    """

    data: ml_collections.ConfigDict
    seed: int
    count: int
    maps: tuple[str, ...]
    train: bool

    @property
    def others(self) -> int:
        """How many rows are read for each one beside it."""
        if not self.train:
            return 0
        return (PARTS - 1) * (self.data.mosaic > 0) + (self.data.copy_paste > 0)

    def with_others(self, rows: Rows) -> Rows:
        """Each row and the `others` behind it, which are masked where nothing is made of them."""
        if not self.others:
            return rows
        draws = self._draws(rows.index, rows.epoch)
        drawn = draws[:, _OTHERS : _OTHERS + self.others]
        number = np.arange(1, self.others + 1, dtype=np.int32)
        index = np.minimum(drawn * self.count, self.count - 1).astype(np.int32)
        mask = rows.mask[:, None] & self._used(draws)
        index = np.where(mask, index, -1)
        epoch = rows.epoch[:, None] + number * LATER
        columns = (rows.index, index), (rows.epoch, epoch), (rows.mask, mask)
        return Rows(*(np.column_stack(pair).astype(pair[0].dtype).reshape(-1) for pair in columns))

    def examples(self, arrays: Arrays) -> Arrays:
        """The rows of a batch, of which `with_others` made more."""
        if not self.others:
            return arrays
        every = 1 + self.others
        made = {name: array[::every].copy() for name, array in arrays.items()}
        draws = self._draws(made["index"], made["epoch"])
        used = self._used(draws)
        for row in np.flatnonzero(used.any(1) & made["mask"]):
            rows = range(row * every, (row + 1) * every)
            parts = [{name: array[k] for name, array in arrays.items()} for k in rows]
            example = self._example([example_of(one, self.maps) for one in parts], draws[row])
            too_many = sum(int(one["left_out"][1]) for one in parts if "left_out" in one)
            put_into({name: array[row] for name, array in made.items()}, example, too_many)
        return made

    def _example(self, parts: list[Example], draws: np.ndarray) -> Example:
        example = parts[0]
        if draws[_MOSAIC] < self.data.mosaic:
            example = mosaic(parts[:PARTS], draws[_PARTS])
        if draws[_PASTE] < self.data.copy_paste:
            first = _OTHERS + self.others
            objects = len(parts[-1].objects["classes"])
            example = copy_paste(example, parts[-1], draws[first : first + objects] < _CHOSEN)
        return example

    def _draws(self, index: np.ndarray, epoch: np.ndarray) -> np.ndarray:
        """Random numbers float64 [k, ...]."""
        count = _OTHERS + self.others + self.data.max_objects
        return uniforms(self.seed ^ _STREAM, epoch, index, count)

    def _used(self, draws: np.ndarray) -> np.ndarray:
        """Which of the others something is made of, bool [k, others]."""
        columns = [draws[:, _MOSAIC] < self.data.mosaic] * (PARTS - 1) * (self.data.mosaic > 0)
        columns += [draws[:, _PASTE] < self.data.copy_paste] * (self.data.copy_paste > 0)
        return np.column_stack(columns)

"""Training images as several random crops of each example, for learning without labels."""

import dataclasses

import ml_collections
import numpy as np

from imagenet_jax.data.names import train_size, train_views
from imagenet_jax.data.order import LATER, Rows

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CropViews:
    """Further crops of each example; each a function of seed, epoch, index and its number.

    An example is read once for each crop, and of a JPEG no more than the crop is decoded.

    Attributes:
      data: config.data: crops, and local_crops of local_size pixels.
      train: whether it is of training: in evaluation there is one view.
    """

    data: ml_collections.ConfigDict
    train: bool

    @property
    def others(self) -> int:
        """How many rows are read for each one beside it."""
        return self.data.crops + self.data.local_crops - 1 if self.train else 0

    def with_others(self, rows: Rows) -> Rows:
        """Each row, and behind it those of its other crops, whose epochs are later by `LATER`."""
        if not self.others:
            return rows
        count = 1 + self.others
        later = np.tile(np.arange(count, dtype=np.int32) * LATER, len(rows.index))
        index, epoch, mask = (np.repeat(column, count) for column in rows)
        return Rows(index, epoch + later, mask)

    def examples(self, arrays: Arrays) -> Arrays:
        """The rows of a batch, of which `with_others` made more: their crops one above the other,
        see `names.train_views`."""
        if not self.others:
            return arrays
        every = 1 + self.others
        made = {name: array[::every] for name, array in arrays.items()}
        made["mask"] = arrays["mask"].reshape(-1, every).all(1)
        made["image"] = self._together(arrays["image"])
        return made

    def _together(self, image: np.ndarray) -> np.ndarray:
        """uint8 [k * crops, S, S, 3] as [k, H, S, 3]; small crops are in the upper left corners,
        and come beside each other, as many in a line as there is room for."""
        data, size = self.data, train_size(self.data)
        views = image.reshape(-1, 1 + self.others, *image.shape[1:])
        found = np.zeros((len(views), *train_views(data)), np.uint8)
        whole = data.crops * size
        found[:, :whole] = views[:, : data.crops].reshape(len(views), whole, *image.shape[2:])
        side = data.local_size
        for number in range(data.local_crops):
            line, place = divmod(number, size // side)
            top, left = whole + line * side, place * side
            small = views[:, data.crops + number, :side, :side]
            found[:, top : top + side, left : left + side] = small
        return found

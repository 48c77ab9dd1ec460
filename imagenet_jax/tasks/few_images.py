"""A few images of an evaluation, with what a network makes of them, for a picture.

Each batch gives some, the same ones on any number of devices; of those of all batches the meter
keeps the first in an order by chance, since neighbours in a split are often of one class.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.devices.parallel import gather_rows
from imagenet_jax.tasks.task import Meter, Sums

FEW = 8
_NUMBER, _OF_FEW = "few_number", "few_"
_FACTOR = np.uint32(2654435769)  # 2^32 over the golden ratio (Knuth, volume 3, section 6.4)


class Few(NamedTuple):
    """Some images of a batch, of which this device may have none.

    Attributes:
      number: int32 [n], those of the examples and one more; 0: this device does not have it.
      row: int32 [n], where in its share of the batch it is.
    """

    number: jax.Array
    row: jax.Array

    def of(self, tree: Any) -> Any:
        """Of arrays [B, ...] the rows [n, ...] of these images."""
        return jax.tree.map(lambda array: array[self.row], tree)


def few_of_batch(index: jax.Array, mask: jax.Array, axis_name: str | None) -> Few:
    """At most FEW images of a batch, the first ones in the order by chance.

    Args:
      index: numbers of this device's examples in the split, int32 [B].
      mask: which of them are there, bool [B].
      axis_name: mapped axis over which the batch is spread.
    """
    numbers, there = gather_rows((index, mask), axis_name)
    # Behind all others are those that are not there, as two of one split never are equal.
    places = jnp.where(there, _place(numbers), jnp.uint32(2**32 - 1))
    chosen = numbers[jnp.argsort(places)[:FEW]]
    is_it = (index[None] == chosen[:, None]) & mask[None]
    return Few(jnp.where(is_it.any(1), chosen + 1, 0), jnp.argmax(is_it, 1))


def few_sums(few: Few, **arrays: jax.Array) -> Sums:
    """Sums over the devices that are what is known of a few images, arrays [n, ...] each."""
    found = {_NUMBER: few.number}
    for name, array in arrays.items():
        shape = (-1, *[1] * (array.ndim - 1))
        array = array.astype(jnp.float32)
        found[_OF_FEW + name] = jnp.where((few.number > 0).reshape(shape), array, 0)
    return found


def without_few(sums: Mapping[str, Any]) -> dict[str, Any]:
    """The sums over batches among these."""
    return {name: value for name, value in sums.items() if not name.startswith(_OF_FEW)}


def _place(index: Any) -> Any:
    """The place of an example in the order by chance, uint32, of its number."""
    return index.astype(np.uint32) * _FACTOR


class FewMeter:
    """A meter that keeps a few images, beside another one.

    Attributes:
      inner: the other, which gives the metrics; None: there are none.
    """

    def __init__(self, inner: Meter | None):
        self.inner = inner
        self._kept: dict[int, dict[str, np.ndarray]] = {}

    def learn(self, observed: Mapping[str, np.ndarray]) -> None:
        """What the other meter is given of training images, if it looks at any."""
        self.inner.learn(observed)

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """See `Meter`."""
        if self.inner:
            self.inner.add(observed)

    def metrics(self) -> dict[str, Any]:
        """Those of the other meter."""
        return self.inner.metrics() if self.inner else {}

    def add_few(self, sums: Mapping[str, np.ndarray]) -> None:
        """Takes what `few_sums` gave of a batch."""
        names = [name for name in sums if name.startswith(_OF_FEW) and name != _NUMBER]
        for row, number in enumerate(sums.get(_NUMBER, ())):
            if number:
                of_image = {name.removeprefix(_OF_FEW): sums[name][row] for name in names}
                self._kept[int(number) - 1] = of_image
        first = sorted(self._kept, key=lambda index: _place(np.array(index)))[:FEW]
        self._kept = {index: self._kept[index] for index in first}

    def few(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The numbers int64 [n] of the images kept, rising, and the arrays [n, ...] of them."""
        index = sorted(self._kept)
        names = self._kept[index[0]] if index else ()
        arrays = {name: np.stack([self._kept[k][name] for k in index]) for name in names}
        return np.array(index, np.int64), arrays

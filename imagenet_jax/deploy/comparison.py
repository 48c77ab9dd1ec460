"""Does an exported model say what the run says? The outputs of both on the same images."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from imagenet_jax.errors import ExportError

Outputs = Mapping[str, np.ndarray]
_MOST = 1e-4  # of the scale of an output, where an export computes in the same precision


class Difference(NamedTuple):
    """Of what two models say of the same images.

    Attributes:
      images: how many.
      largest: the largest difference of floating-point outputs, over the largest magnitude of
        each.
      changed: images of which a decision is another one: the best class, which labels are there,
        the class of a pixel, or those of the boxes.
    """

    images: int
    largest: float
    changed: int


def compared(ours: Outputs, theirs: Outputs, several_labels: bool = False) -> Difference:
    """Of arrays [B, ...] of the same names.

    Args:
      ours, theirs: what both say.
      several_labels: whether logits are of labels each of which may be there.
    """
    count, largest = len(next(iter(ours.values()))), 0.0
    changed = np.zeros(count, bool)
    for name, mine in ours.items():
        other = np.asarray(theirs[name])
        if mine.shape != other.shape or mine.dtype.kind != other.dtype.kind:
            raise ExportError(
                f"{name} is {other.dtype} {list(other.shape)}, not {mine.dtype} {list(mine.shape)}"
            )
        if mine.dtype.kind == "f":
            scale = max(float(np.abs(mine).max(initial=0)), 1e-9)
            apart = float(np.abs(mine - other).max(initial=0)) / scale
            largest = max(largest, apart) if apart == apart else float("inf")
        decided = [_decisions(name, array, several_labels) for array in (mine, other)]
        changed |= (decided[0] != decided[1]).reshape(count, -1).any(1)
    return Difference(count, largest, int(changed.sum()))


def _decisions(name: str, array: np.ndarray, several_labels: bool) -> np.ndarray:
    """What follows from an output: whole numbers; none of boxes and scores."""
    if array.dtype.kind != "f":
        return array
    if name == "multilabel" or (name == "logits" and several_labels):
        return array > 0
    if name in ("logits", "classification"):
        return array.argmax(-1)
    return np.zeros(len(array), bool)


def check_difference(found: Difference, what: str, most: float = _MOST) -> None:
    """Raises ExportError for more than rounding can do."""
    if not found.largest <= most or found.changed:
        raise ExportError(
            f"{what} does not say what the model says: of {found.images} images {found.changed} "
            f"have another answer, and the largest difference is {found.largest:.1e} of the "
            f"outputs' scale, more than {most:g}; nothing was written"
        )


def in_parts(run: Callable[[np.ndarray], Outputs], images: np.ndarray, most: int) -> Outputs:
    """What a model says of images, so many at once."""
    parts = [run(images[k : k + most]) for k in range(0, len(images), most)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

"""Does an exported model say what the run says? The outputs of both on the same images."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from imagenet_jax.deploy.box_comparison import other_boxes, other_raw_boxes
from imagenet_jax.errors import ExportError
from imagenet_jax.models.detection.suppression import Suppression
from imagenet_jax.tasks.nearest import unit

Outputs = Mapping[str, np.ndarray]
# Of the scale of an output, by the type in which a network computes: compilers fuse and fold the
# same operations in other ways where weights are constants.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.01}
# Share of the pixels of an image that may change sides.
_PIXELS = {"float32": 1e-3, "bfloat16": 5e-3, "float16": 1e-3}
_TURNED = 0.1  # cosine distance, below which verification calls photos the same
_ROUNDED = 0.1  # share of images that may have another answer if values are rounded otherwise
_OTHERS = 0.25  # share of images that a network of integers may see otherwise


class Difference(NamedTuple):
    """Of what two models say of the same images.

    Attributes:
      images: how many.
      largest: the largest difference of floating-point outputs, over the largest magnitude of
        each; of boxes that of their scores, the best ones first; before suppression that of all
        boxes, and of all scores, over 1.
      changed: images of which a decision is another one: the best class, or which labels are
        there, beyond what the difference allows; the classes of more than a thousandth of the
        pixels, of bfloat16 five; a box with a score above 0.1 that the other does not have, see
        `box_comparison`; an embedding, or features, that point elsewhere, at a cosine distance
        above 0.1.
    """

    images: int
    largest: float
    changed: int


def compared(
    ours: Outputs,
    theirs: Outputs,
    several_labels: bool = False,
    dtype: str = "float32",
    rules: Mapping[str, Suppression] | None = None,
) -> Difference:
    """Of arrays [B, ...] of the same names.

    Args:
      ours, theirs: what both say.
      several_labels: whether logits are of labels each of which may be there.
      dtype: in which the network computes.
      rules: what is to be done with raw_boxes and raw_scores, see `Task.suppressions`.

    Raises:
      ExportError: for other names, shapes or types.
    """
    if {*ours} != {*theirs}:
        raise ExportError(f"it has the outputs {', '.join(theirs)}, not {', '.join(ours)}")
    count, largest = len(next(iter(ours.values()))), 0.0
    changed, most = np.zeros(count, bool), TOLERANCE[dtype]
    for name, mine in ours.items():
        other, (part, _, kind) = np.asarray(theirs[name]), name.rpartition("/")
        if mine.shape != other.shape or mine.dtype != other.dtype:
            raise ExportError(
                f"{name} is {other.dtype} {list(other.shape)}, not {mine.dtype} {list(mine.shape)}"
            )
        if kind in ("boxes", "classes", "masks"):  # they go with the scores
            continue
        if mine.dtype.kind == "f":
            scale = max(float(np.abs(mine).max(initial=0)), 1e-9) if kind != "raw_scores" else 1
            apart = float(np.abs(mine - other).max(initial=0)) / scale
            largest = max(largest, apart) if apart == apart else float("inf")
        if kind == "scores":
            changed |= other_boxes(part, ours, theirs, most)
        elif kind == "raw_scores":
            changed |= other_raw_boxes(part, ours, theirs, rules[part], most)
        elif kind == "raw_boxes":
            continue
        elif mine.dtype.kind != "f":
            changed |= (mine != other).reshape(count, -1).mean(1) > _PIXELS[dtype]
        elif kind == "embedding":
            changed |= 1 - (mine * other).sum(-1) > _TURNED
        elif kind == "features":
            changed |= 1 - (unit(mine) * unit(other)).sum(-1) > _TURNED
        elif kind == "multilabel" or several_labels:
            sure = np.abs(mine) > most * scale
            changed |= (((mine > 0) != (other > 0)) & sure).any(-1)
        else:
            top = np.sort(mine, -1)
            sure = top[..., -1] - top[..., -2] > 2 * most * scale if mine.shape[-1] > 1 else False
            changed |= (mine.argmax(-1) != other.argmax(-1)) & sure
    return Difference(count, largest, int(changed.sum()))


def check_difference(found: Difference, what: str, dtype: str = "float32") -> None:
    """Raises ExportError for more than rounding can do."""
    most = TOLERANCE[dtype]
    if not found.largest <= most or found.changed:
        raise ExportError(
            f"{what} does not say what the model says: of {found.images} images {found.changed} "
            f"have another answer, and the largest difference is {found.largest:.1e} of the "
            f"outputs' scale (at most {most:g} of {dtype}); nothing was written"
        )


def check_rounding(found: Difference, what: str) -> None:
    """Raises ExportError for more than other orders of operations make of a network that rounds to
    int8, where a value between two levels becomes now the one and now the other."""
    if not found.changed <= _ROUNDED * found.images or not np.isfinite(found.largest):
        raise ExportError(
            f"{what} says something else of {found.changed} of {found.images} images, and levels "
            "that are rounded otherwise can change a few alone; nothing was written"
        )


def check_decisions(found: Difference, what: str) -> None:
    """Raises ExportError for integers that say something else of many images."""
    if not found.changed <= _OTHERS * found.images or not np.isfinite(found.largest):
        raise ExportError(
            f"{what} says something else of {found.changed} of {found.images} images; give more "
            "photos of the kind that it will see, for the ranges of its integers; nothing was "
            "written"
        )


def in_parts(run: Callable[[np.ndarray], Outputs], images: np.ndarray, most: int) -> Outputs:
    """What a model says of images, so many at once."""
    parts = [run(images[k : k + most]) for k in range(0, len(images), most)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

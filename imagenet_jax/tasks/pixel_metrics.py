"""Metrics of segmentation, from counts of pixels."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.reports.map_mistakes import class_ious


def zero_sums() -> dict[str, jax.Array]:
    """`pixel_sums` over no examples."""
    whole = jnp.zeros((), jnp.int32)
    return {"loss": jnp.zeros(()), "count": whole, "pixels": whole, "right": whole}


def pixel_sums(
    right: jax.Array, known: jax.Array, loss: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums over the examples with mask True.

    Args:
      right: whether what was said of each pixel is its class, bool [B, H, W].
      known: whether it has one, bool [B, H, W].
      loss: of the examples, float32 [B].
      mask: bool [B].

    Returns:
      loss; count, the examples; pixels, that have a class; right, that were told.
    """
    known = known & mask[:, None, None]
    return {
        "loss": jnp.where(mask, loss, 0).sum(),
        "count": mask.sum(dtype=jnp.int32),
        "pixels": known.sum(dtype=jnp.int32),
        "right": (known & right).sum(dtype=jnp.int32),
    }


def class_pixels(predicted: jax.Array, targets: jax.Array, num_classes: int) -> jax.Array:
    """Of each class the pixels that are right, that are of it and that were said to be.

    Args:
      predicted, targets: classes, int [B, H, W]; what is none of `num_classes` in `targets`
        counts for nothing.
      num_classes: K.

    Returns:
      int32 [B, 3, K].
    """
    classes = jnp.arange(num_classes)[None]

    def of_image(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        said, there = (x.reshape(-1, 1) == classes for x in pair)
        said &= (pair[1] < num_classes).reshape(-1, 1)
        return jnp.stack([x.sum(0, dtype=jnp.int32) for x in (said & there, there, said)])

    return jax.lax.map(of_image, (predicted, targets))


def summarize(sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
    """Adds sums up on the host.

    Args:
      sums: of `pixel_sums`, in evaluations with of_classes, those of `class_pixels` [3, K].

    Returns:
      num_examples; loss, the mean over the pixels that have a class; pixel_accuracy, the share of
      them that were told. Of evaluations also miou, the mean IoU over the classes that are there or
      were said to be; mean_accuracy, over those that are there, of the share of their pixels that
      was told; and classes_without_pixels, the number of the others. NaN where there is nothing.
    """
    total: dict[str, Any] = {}
    for part in sums:
        for name, value in part.items():
            kind = np.float64 if name == "loss" else np.int64
            total[name] = total.get(name, 0) + np.asarray(value).astype(kind)
    divide = int(total.get("pixels", 0)) or float("nan")
    found = {
        "num_examples": int(total.get("count", 0)),
        "loss": float(total.get("loss", 0) / divide),
        "pixel_accuracy": float(total.get("right", 0) / divide),
    }
    if "of_classes" not in total:
        return found
    right, there, _ = total["of_classes"]
    ious, is_there = class_ious(total["of_classes"]), there > 0
    known, shares = ious[~np.isnan(ious)], right[is_there] / there[is_there]
    return found | {
        "miou": float(known.mean()) if known.size else float("nan"),
        "mean_accuracy": float(shares.mean()) if shares.size else float("nan"),
        "classes_without_pixels": int(np.isnan(ious).sum()),
    }

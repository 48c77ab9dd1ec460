"""Test-time augmentation: the mean of what a network makes of several views of an image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def mean_over_views(apply: Callable[[Any], jax.Array], images: jax.Array, views: str) -> jax.Array:
    """Logits float32 [B, K] of images, averaged over views of them.

    Args:
      apply: the network.
      images: float32 [B, S, S, 3].
      views: config.eval.tta. "": the image alone. "mirror": with its mirror image, as in FFCV.
        "mirror_shift": half of that, and a quarter each of both shifted by a pixel towards the
        lower right and the upper left corner, with a reflected border, as in airbench.
    """
    if not views:
        return apply(images)
    shown, weights = [images], [1.0]
    if views == "mirror_shift":
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        shown += [padded[:, :-2, :-2], padded[:, 2:, 2:]]
        weights = [0.5, 0.25, 0.25]
    shown += [view[:, :, ::-1] for view in shown]
    # One after the other: as one batch, they would be spread over the devices anew.
    logits = jax.lax.map(apply, jnp.stack(shown))
    return (logits * np.array(2 * weights, np.float32)[:, None, None] / 2).sum(0)

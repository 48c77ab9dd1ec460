"""Test-time augmentation: what a network makes of several views of an image, put together."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.augment import mirrored_boxes
from imagenet_jax.models.layers.resize import bilinear_resize

_MULTIPLE = 32  # pixels; of the sides of a view of another size: the strides of maps divide it


def view_side(size: int, scale: float) -> int:
    """Height and width in pixels of the view of an image of `size` in another scale."""
    return size if scale == 1 else max(1, round(size * scale / _MULTIPLE)) * _MULTIPLE


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


class View(NamedTuple):
    """Images as a network is shown them.

    Attributes:
      images: float32 [B, S, S, 3].
      mirrored: whether they are mirror images.
      scale: S over the size of the images that they are made of.
    """

    images: jax.Array
    mirrored: bool
    scale: float

    def boxes_back(self, boxes: jax.Array) -> jax.Array:
        """Boxes [..., 4] that were found in it, in pixels of the images."""
        size = self.images.shape[2]
        return (mirrored_boxes(boxes, size) if self.mirrored else boxes) / self.scale

    def map_back(self, logits: jax.Array, size: int) -> jax.Array:
        """Logits [B, S, S, K] of it, [B, size, size, K] of the images."""
        return bilinear_resize(logits[:, :, ::-1] if self.mirrored else logits, (size, size))


def views_of(images: jax.Array, config: ml_collections.ConfigDict) -> Iterator[View]:
    """The views that config.eval.scales and config.eval.tta ("" or "mirror") name.

    Args:
      images: float32 [B, S, S, 3]. For another scale they are resized, to multiples of 32 pixels.
      config: of the run.
    """
    size = images.shape[1]
    for scale in config.eval.scales:
        side = view_side(size, scale)
        shown = bilinear_resize(images, (side, side)).astype(images.dtype)
        for mirrored in (False, True) if config.eval.tta else (False,):
            yield View(shown[:, :, ::-1] if mirrored else shown, mirrored, side / size)

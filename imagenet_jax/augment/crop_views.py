"""Views of images for learning without labels: each crop is augmented by a key of its own.

In the order of SimCLR, BYOL and DINO: mirroring, colour jitter, grey, blur, solarisation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.augment import color
from imagenet_jax.augment.geometry import random_flip
from imagenet_jax.augment.keys import example_keys, fold_in, uniform

_STREAM = 0x76696577  # apart from the keys of images that are no views


class Views(NamedTuple):
    """Views of the images of a batch; those of an image are neighbours.

    Attributes:
      whole: float32 [B * V, S, S, 3], V being data.crops.
      local: float32 [B * L, s, s, 3], L being data.local_crops; None without.
    """

    whole: jax.Array
    local: jax.Array | None = None


def train_crops(
    batch: dict[str, jax.Array], key: jax.Array, config: ml_collections.ConfigDict
) -> Views:
    """Augmented and normalised views.

    Args:
      batch: image uint8 [B, H, S, 3], see `data.names.train_views`; index, epoch.
      key: of the run.
      config: of the run: augment, and crops, local_crops and local_size of data.
    """
    data, augment = config.data, config.augment
    count, _, size, _ = batch["image"].shape
    first = fold_in(example_keys(key, batch["epoch"], batch["index"]), _STREAM)

    def augmented(image: jax.Array, start: int, each: int) -> jax.Array:
        keys = jax.vmap(lambda k: jax.vmap(lambda v: jax.random.fold_in(k, v))(_numbers(each)))
        keys = keys(jax.vmap(jax.random.fold_in, (0, None))(first, start)).reshape(-1)
        places = jnp.tile(jnp.minimum(start + _numbers(each), 2), count)
        return _view(image, keys, places, augment)

    high = data.crops * size
    whole = batch["image"][:, :high].reshape(-1, size, size, 3)
    whole = augmented(whole, 0, data.crops)
    if not data.local_crops:
        return Views(whole)
    small = _small(batch["image"][:, high:], data.local_crops, data.local_size)
    return Views(whole, augmented(small, max(data.crops, 2), data.local_crops))


def _numbers(count: int) -> jax.Array:
    return jnp.arange(count, dtype=jnp.int32)


def _small(image: jax.Array, count: int, side: int) -> jax.Array:
    """Small crops uint8 [B * count, side, side, 3] of the lines [B, H, S, 3] that they lie in."""
    rows, lines, across = image.shape[0], image.shape[1] // side, image.shape[2] // side
    cells = image[:, :, : across * side].reshape(rows, lines, side, across, side, 3)
    cells = jnp.moveaxis(cells, 3, 2).reshape(rows, lines * across, side, side, 3)
    return cells[:, :count].reshape(-1, side, side, 3)


def _view(
    image: jax.Array, keys: jax.Array, places: jax.Array, augment: ml_collections.ConfigDict
) -> jax.Array:
    """Levels uint8 [R, S, S, 3], with a key each and the number of its view, augmented."""
    if augment.flip:
        image = random_flip(image, fold_in(keys, 0))
    image = image.astype(jnp.float32) / 255
    ranges = augment.brightness, augment.contrast, augment.saturation, augment.hue
    if any(ranges):
        jittered = color.color_jitter(image, fold_in(keys, 1), ranges, augment.jitter)
        image = _some(keys, 2, augment.jitter_share, jittered, image)
    if augment.grayscale:
        image = _some(keys, 3, augment.grayscale, color.to_gray(image), image)
    if any(blur := augment.view_blur or (augment.blur,)):
        sigma = uniform(fold_in(keys, 4), *augment.blur_sigma)
        blurred = color.gaussian_blur(image, sigma, largest=augment.blur_sigma[1])
        image = _some(keys, 5, _of_view(blur, places), blurred, image)
    if any(solarize := augment.view_solarize or (augment.solarize,)):
        solarized = color.solarize(image, color.SOLARIZE_FROM)
        image = _some(keys, 6, _of_view(solarize, places), solarized, image)
    return color.normalize(255 * image, augment.mean, augment.std)


def _of_view(shares: Sequence[float], places: jax.Array) -> jax.Array:
    """The share of each view, float32 [R]: of the last one on all the same."""
    return jnp.asarray(shares, jnp.float32)[jnp.minimum(places, len(shares) - 1)]


def _some(
    keys: jax.Array, number: int, share: float | jax.Array, changed: jax.Array, image: jax.Array
) -> jax.Array:
    """`changed` in a share of the images [R, ...], `image` in the others."""
    chosen = uniform(fold_in(keys, number)) < share
    return jnp.where(chosen[:, None, None, None], changed, image)

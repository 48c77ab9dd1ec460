"""Views of an image that are augmented by themselves, as semi-supervised learning compares them."""

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.config import base_config

_VIEWS = 2**31 - 3  # the key of no epoch
_KEPT = ("flip", "flip_alternates", "pad", "pad_mode", "mean", "std")


def own_key(key: jax.Array, number: int) -> jax.Array:
    """The key of a run for view `number` of each image; that of the first is the run's."""
    return jax.random.fold_in(jax.random.fold_in(key, _VIEWS), number) if number else key


def view_of(batch: dict[str, jax.Array], number: int, views: int) -> dict[str, jax.Array]:
    """View `number` of each image [B, S, S, 3] of a batch of images [B, views * S, S, 3]."""
    size = batch["image"].shape[1] // views
    return {**batch, "image": batch["image"][:, number * size : (number + 1) * size]}


def weak(augment: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """config.augment with nothing but the mirroring and the translation."""
    found = base_config().augment
    for name in _KEPT:
        found[name] = augment[name]
    return found


def side_by_side(*views: jax.Array) -> jax.Array:
    """Views [B, ...] of the same images, [B, V, ...]."""
    return jnp.stack(views, 1)

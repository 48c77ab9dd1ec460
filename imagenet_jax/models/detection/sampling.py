"""A fixed number of anchors or proposals to train on, some of them with objects."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from imagenet_jax.models.detection.matching import BACKGROUND


class Sample(NamedTuple):
    """Chosen rows of an image.

    Attributes:
      place: their numbers, int32 [B, n].
      valid: bool [B, n]; False: there were not enough.
    """

    place: jax.Array
    valid: jax.Array


def sampled(matched: jax.Array, keys: jax.Array, count: int, share: float) -> Sample:
    """`count` rows, at most `share` of them with an object, by chance; torchvision's sampler.

    Args:
      matched: number of the object of each row, int32 [B, A], see `matching.match_by_iou`.
      keys: of the images [B], on which alone the choice depends.
      count: of rows.
      share: of them, at most, with an object.
    """
    return jax.vmap(lambda row, key: _of_image(row, key, count, share))(matched, keys)


def counted(matched: jax.Array, count: int, share: float) -> jax.Array:
    """How many rows of each image are chosen, int32 [B]."""
    positive = jnp.minimum((matched >= 0).sum(1), int(count * share))
    return positive + jnp.minimum((matched == BACKGROUND).sum(1), count - positive)


def _of_image(matched: jax.Array, key: jax.Array, count: int, share: float) -> Sample:
    chance = jax.random.uniform(key, matched.shape)
    most, count = int(count * share), min(count, len(matched))
    with_object = _best(jnp.where(matched >= 0, chance, -1), min(most, len(matched)))
    without = _best(jnp.where(matched == BACKGROUND, chance, -1), count)
    left = count - with_object.valid.sum()
    without = without._replace(valid=without.valid & (jnp.arange(count) < left))
    place, valid = (jnp.concatenate(parts) for parts in zip(with_object, without, strict=True))
    order = jnp.argsort(~valid, stable=True)[:count]  # what is not there comes last
    return Sample(place[order], valid[order])


def _best(chance: jax.Array, count: int) -> Sample:
    values, place = jax.lax.top_k(chance, count)
    return Sample(place, values >= 0)

"""How much features differ between images: whether they have collapsed to one point."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.heads.embedder import normalised

SPREAD = ("feature_sums", "feature_squares")


def zero_spread(size: int) -> dict[str, jax.Array]:
    """`spread_sums` of no features of so many numbers."""
    return {name: jnp.zeros(size) for name in SPREAD}


def spread_sums(features: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """What `feature_std` is computed of, float32 [D] each; sums over any number of batches.

    Args:
      features: float32 [B, D].
      mask: bool [B], which count.
    """
    size = features.shape[-1]
    directions = normalised(jax.lax.stop_gradient(features)) * size**0.5
    directions = jnp.where(mask[:, None], directions, 0)
    return dict(zip(SPREAD, (directions.sum(0), jnp.square(directions).sum(0)), strict=True))


def feature_std(sums: Mapping[str, np.ndarray], count: int) -> float:
    """The mean over the numbers of features of their standard deviation over so many images.

    Features have the length sqrt(D): where they point anywhere it is about 1, where all are one
    point 0 (Chen & He 2020, https://arxiv.org/abs/2011.10566, section 4.1, times sqrt(D)).
    """
    first, second = (np.asarray(sums[name], np.float64) / max(count, 1) for name in SPREAD)
    return float(np.sqrt(np.maximum(second - first**2, 0)).mean())

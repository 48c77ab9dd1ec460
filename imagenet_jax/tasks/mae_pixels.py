"""What a masked autoencoder is to say of the pixels that are hidden, and what it has said."""

import jax
import jax.numpy as jnp

from imagenet_jax.models.heads.masked_autoencoder import Reconstruction
from imagenet_jax.models.layers.patches import from_patches, to_patches

_EPSILON = 1e-6  # of the variance, as in the reference


def _moments(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of the pixels of each patch [B, T, P], [B, T, 1] each."""
    mean = patches.mean(-1, keepdims=True)
    return mean, jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + _EPSILON)


def reconstruction_errors(
    image: jax.Array, found: Reconstruction, size: int, *, norm_pixels: bool
) -> jax.Array:
    """The mean squared error over the pixels that are hidden, float32 [B]; `forward_loss` of
    facebookresearch/mae, models_mae.py.

    Args:
      image: [B, H, W, 3], float32 and normalised.
      found: what was made of it, of patches of `size` pixels.
      size: height and width of a patch.
      norm_pixels: whether each patch is told less its mean, over its standard deviation.
    """
    wanted = to_patches(image, size)
    if norm_pixels:
        mean, deviation = _moments(wanted)
        wanted = (wanted - mean) / deviation
    error = jnp.square(found.patches - wanted).mean(-1)
    return jnp.where(found.masked, error, 0).sum(1) / found.masked.sum(1)


def reconstructed_images(
    image: jax.Array, found: Reconstruction, size: int, *, norm_pixels: bool
) -> jax.Array:
    """Images [B, H, W, 3], normalised, with what is said of the patches that are hidden; where
    these were normalised, with the mean and the deviation that the patch really has.

    Arguments as of `reconstruction_errors`.
    """
    own, told = to_patches(image, size), found.patches
    if norm_pixels:
        mean, deviation = _moments(own)
        told = told * deviation + mean
    pasted = jnp.where(found.masked[..., None], told, own)
    return from_patches(pasted, size, image.shape[1])

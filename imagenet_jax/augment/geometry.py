"""Augmentations that move or cover pixels."""

import jax
import jax.numpy as jnp
import ml_collections

_ATTEMPTS = 10  # of random erasing, as in torchvision


def random_flip(image: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirrors each image [B, H, W, C] with probability 1/2, by its key [B]."""
    flip = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)


def random_translate(image: jax.Array, keys: jax.Array, pad: int, mode: str) -> jax.Array:
    """Crops each image [B, H, W, C] at random out of itself padded by `pad` pixels.

    Args:
      image: any dtype.
      keys: one key per image [B].
      pad: largest shift in pixels, in both directions.
      mode: "constant" pads with 0 (black before normalisation), "reflect" mirrors.
    """
    padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * pad + 1))(keys)

    def crop(one: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(one, (offset[0], offset[1], 0), image.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def random_erasing(
    image: jax.Array, keys: jax.Array, augment: ml_collections.ConfigDict
) -> jax.Array:
    """Covers a box of each image with probability augment.erase (Zhong et al. 2020).

    Boxes are drawn as by torchvision.transforms.RandomErasing: the first of ten that fits.

    Args:
      image: normalised, float32 [B, H, W, C].
      keys: one key per image [B].
      augment: erase, erase_area, erase_ratio, and erase_mode: "zero" (the mean colour), "color"
        (one normal number per channel, timm's mode "rand") or "pixel" (one per pixel).
    """
    height, width = image.shape[1:3]

    def erase(one: jax.Array, key: jax.Array) -> jax.Array:
        number, noise = jax.random.split(key)
        draw = jax.random.uniform(number, (5, _ATTEMPTS))
        box = erased_box(draw[:4], (height, width), augment.erase_area, augment.erase_ratio)
        covered = inside(box, (height, width)) & (draw[4, 0] < augment.erase)
        cover = 0.0
        if augment.erase_mode != "zero":
            fine = one.shape if augment.erase_mode == "pixel" else one.shape[-1:]
            cover = jax.random.normal(noise, fine)
        return jnp.where(covered[..., None], cover, one)

    return jax.vmap(erase)(image, keys)


def erased_box(
    draw: jax.Array,
    shape: tuple[int, int],
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> jax.Array:
    """Top, left, height, width int32 [4] of the first box that fits; height 0 if none does.

    Args:
      draw: random numbers in [0, 1), float32 [4, attempts]: area, ratio, top, left.
      shape: height and width of the image.
      area: range of the box's share of the image's area.
      ratio: range of its height / width, log-uniform.
    """
    height, width = shape
    pixels = height * width * (area[0] + (area[1] - area[0]) * draw[0])
    low, high = jnp.log(jnp.array(ratio))
    aspect = jnp.exp(low + (high - low) * draw[1])
    h, w = jnp.round(jnp.sqrt(pixels * aspect)), jnp.round(jnp.sqrt(pixels / aspect))
    fits = (h < height) & (w < width)
    top, left = jnp.floor(draw[2] * (height - h + 1)), jnp.floor(draw[3] * (width - w + 1))
    first = jnp.stack([top, left, h, w])[:, fits.argmax()]
    return jnp.where(fits.any(), first, 0).astype(jnp.int32)


def inside(box: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Whether each pixel lies in the box (top, left, height, width); bool [H, W]."""
    top, left, height, width = box
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])[None]
    return (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)

"""Augmentations that move or cover pixels."""

import jax
import jax.numpy as jnp
import ml_collections

_ATTEMPTS = 10  # of random erasing, as in torchvision


def random_flip(image: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirrors each image [B, H, W, C] with probability 1/2, by its key [B]."""
    flip = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)


def turned(image: jax.Array, turn: jax.Array) -> jax.Array:
    """Square images [B, S, S, C], each turned by so many quarters of a circle to the left.

    Args:
      image: any dtype.
      turn: int32 [B] of 0 to 7; from 4 on the mirror image is turned by the rest.
    """
    turn = turn[:, None, None, None]
    image = jnp.where(turn >= 4, image[:, :, ::-1], image)
    image = jnp.where(turn % 4 >= 2, image[:, ::-1, ::-1], image)
    return jnp.where(turn % 2 == 1, image.swapaxes(1, 2)[:, ::-1], image)


def alternating_flip(image: jax.Array, keys: jax.Array, epoch: jax.Array) -> jax.Array:
    """Mirrors half of the images [B, H, W, C], and in the next epoch the other half.

    Jordan 2024, https://arxiv.org/abs/2404.00498. Unlike with chances of their own no image is
    seen the same way in two epochs in a row.

    Args:
      image: any dtype.
      keys: one key per image [B], the same in each epoch.
      epoch: int32 [B].
    """
    flip = jax.vmap(jax.random.bernoulli)(keys) ^ (epoch % 2 == 1)
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
    """Covers boxes of each image with probability augment.erase (Zhong et al. 2020).

    Boxes are drawn as by torchvision.transforms.RandomErasing: the first of ten that fits. Where
    there may be several, 1 to augment.erase_count share the area, as in timm.

    Args:
      image: normalised, float32 [B, H, W, C].
      keys: one key per image [B].
      augment: erase, erase_area, erase_ratio, and erase_mode: "zero" (the mean colour), "color"
        (one normal number per channel, timm's mode "rand") or "pixel" (one per pixel).
    """
    height, width = image.shape[1:3]

    most = augment.erase_count

    def erase(one: jax.Array, key: jax.Array) -> jax.Array:
        number, noise = jax.random.split(key)
        draw = jax.random.uniform(number, (4 * most + 1, _ATTEMPTS))
        erased, count = draw[-1, 0] < augment.erase, 1 + (most * draw[-1, 1]).astype(jnp.int32)
        area = jnp.array(augment.erase_area) / count if most > 1 else augment.erase_area
        covers = jnp.zeros(most)
        if augment.erase_mode != "zero":
            fine = one.shape if augment.erase_mode == "pixel" else one.shape[-1:]
            covers = jax.random.normal(noise, (most, *fine))
        for place, cover in enumerate(covers):
            draws = draw[4 * place : 4 * place + 4]
            box = erased_box(draws, (height, width), area, augment.erase_ratio)
            covered = inside(box, (height, width)) & erased & (place < count)
            one = jnp.where(covered[..., None], cover, one)
        return one

    return jax.vmap(erase)(image, keys)


def erased_box(
    draw: jax.Array,
    shape: tuple[int, int],
    area: tuple[float, float] | jax.Array,
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


def drop_lines(image: jax.Array, key: jax.Array, share: float) -> jax.Array:
    """Leaves out a share of the rows and of the columns, the same in each of images [B, H, W, C].

    ColOut of Composer: what is left, a whole number of lines rounded down, is smaller.
    """
    for axis, number in ((1, 0), (2, 1)):
        side = image.shape[axis]
        order = jax.random.permutation(jax.random.fold_in(key, number), side)
        image = jnp.take(image, jnp.sort(order[: lines_kept(side, share)]), axis)
    return image


def lines_kept(side: int, share: float) -> int:
    """How many of `side` rows or columns `drop_lines` leaves."""
    return int((1 - share) * side)

"""Augmentations of colour and sharpness, after torchvision's for float images in [0, 1].

And after TensorFlow's, whose jitter is another one.
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.augment.keys import fold_in, uniform

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision rounds it
SOLARIZE_FROM = 128 / 255  # Pillow's default
# Of the colours of ImageNet's training images, RGB in [0, 1]: a column for each eigenvalue, as in
# facebookarchive/fb.resnet.torch datasets/imagenet.lua.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def normalize(image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(image / 255 - mean) / std for levels 0 to 255 [..., 3] of any dtype; float32."""
    mean, std = jnp.array(mean, jnp.float32), jnp.array(std, jnp.float32)
    factor, shift = (
        jax.lax.broadcast_to_rank(part, image.ndim) for part in (1 / (255 * std), mean / std)
    )
    return image.astype(jnp.float32) * factor - shift


def normalized_again(
    image: jax.Array,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    new_mean: tuple[float, ...],
    new_std: tuple[float, ...],
) -> jax.Array:
    """What `normalize` gives with another mean and std, from what it gave; mixes stay mixes."""
    if (*mean, *std) == (*new_mean, *new_std):
        return image
    arrays = (np.array(part, np.float64) for part in (mean, std, new_mean, new_std))
    mean, std, new_mean, new_std = arrays
    factor, shift = (
        jax.lax.broadcast_to_rank(jnp.array(part, jnp.float32), image.ndim)
        for part in (std / new_std, (mean - new_mean) / new_std)
    )
    return image * factor + shift


def is_on(augment: ml_collections.ConfigDict) -> bool:
    """Whether `random_color` does anything."""
    chances = (augment.grayscale, augment.solarize, augment.blur, augment.noise)
    on = augment.three_augment or augment.lighting or any(chances)
    return bool(on or any(_ranges(augment)))


def random_color(
    image: jax.Array, keys: jax.Array, augment: ml_collections.ConfigDict
) -> jax.Array:
    """Three-augment or greyscale, solarize and blur; then jitter, lighting and noise.

    Args:
      image: levels uint8 [B, H, W, 3].
      keys: one key per image [B].
      augment: config.augment.

    Returns:
      Levels 0 to 255, float32 [B, H, W, 3]; by augment.lighting beyond, as in its sources.
    """
    image = image.astype(jnp.float32) / 255
    sigma = uniform(fold_in(keys, 0), *augment.blur_sigma)
    changes = (
        (augment.grayscale, to_gray),
        (augment.solarize, lambda x: solarize(x, SOLARIZE_FROM)),
        (augment.blur, lambda x: gaussian_blur(x, sigma, largest=augment.blur_sigma[1])),
    )
    if augment.three_augment:  # Touvron et al. 2022, DeiT III: one of the three
        which = (3 * uniform(fold_in(keys, 1))).astype(jnp.int32)
        image = _choose(which, [change(image) for _, change in changes])
    else:
        for number, (chance, change) in enumerate(changes):
            if chance:
                changed = uniform(fold_in(keys, 2 + number)) < chance
                image = jnp.where(changed[:, None, None, None], change(image), image)
    if any(_ranges(augment)):
        jittered = color_jitter(image, fold_in(keys, 5), _ranges(augment), augment.jitter)
        if augment.jitter_share < 1:
            chosen = uniform(fold_in(keys, 8)) < augment.jitter_share
            jittered = jnp.where(chosen[:, None, None, None], jittered, image)
        image = jittered
    if augment.lighting:
        image += pca_noise(fold_in(keys, 7), augment.lighting)[:, None, None]
    if augment.noise:
        noise = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(fold_in(keys, 6))
        image = jnp.clip(image + augment.noise * noise, 0, 1)
    return 255 * image


def color_jitter(
    image: jax.Array,
    keys: jax.Array,
    ranges: tuple[float, float, float, float],
    form: str = "torchvision",
) -> jax.Array:
    """Brightness, contrast, saturation and hue by random factors in random order.

    Args:
      image: float32 [B, H, W, 3] in [0, 1].
      keys: one key per image [B].
      ranges: of the four; a factor is drawn from [max(0, 1 - range), 1 + range], a shift of
        hue from [-range, range] (1 is the whole circle); 0: left as it is.
      form: a key of FORMS; with "tensorflow" brightness is a shift, too, and only the result is
        cut to [0, 1].
    """
    changes, shifts = FORMS[form]
    used = [number for number in range(4) if ranges[number]]
    factors = {}
    for number in used:
        low, high = (-1, 1) if number in shifts else (max(-1.0, -1 / ranges[number]), 1)
        shift = ranges[number] * uniform(fold_in(keys, number), low, high)
        factors[number] = shift if number in shifts else 1 + shift
    order = jax.vmap(lambda key: jax.random.permutation(key, len(used)))(fold_in(keys, 4))
    for place in range(len(used)):
        image = _choose(order[:, place], [changes[n](image, factors[n]) for n in used])
    return jnp.clip(image, 0, 1) if form == "tensorflow" else image


def pca_noise(keys: jax.Array, std: float) -> jax.Array:
    """What AlexNet adds to all pixels of an image, along the axes of the colours' variation.

    Args:
      keys: one key per image [B].
      std: of the factors of the three eigenvalues.

    Returns:
      RGB [B, 3] where an image's is in [0, 1].
    """
    factors = std * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    axes = jnp.array(_EIGENVECTORS) * jnp.array(_EIGENVALUES)[None]
    return (axes[None] * factors[:, None]).sum(-1)


def adjust_brightness(image: jax.Array, factor: jax.Array) -> jax.Array:
    """image [B, H, W, 3] in [0, 1] times factor [B]."""
    return _blend(image, jnp.zeros_like(image), factor)


def adjust_contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with the mean luma of each image, factor [B] being the image's share."""
    return _blend(image, to_gray(image).mean((1, 2, 3), keepdims=True), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with the grey image, factor [B] being the image's share."""
    return _blend(image, to_gray(image), factor)


def adjust_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns the hue by shift [B] of the whole circle."""
    red, green, blue = jnp.moveaxis(image, -1, 0)
    high, low = image.max(-1), image.min(-1)
    spread = high - low
    safe = jnp.where(spread > 0, spread, 1)
    # Not by what equals `high`: XLA may compute both anew, rounded in two ways, and nothing does.
    hue = jnp.where(
        (red >= green) & (red >= blue),
        (green - blue) / safe,
        jnp.where(green >= blue, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue / 6 + shift[:, None, None]
    # Each channel is a trapezoid of the hue: see "HSL and HSV", formula of f(n).
    corner = (jnp.array([[[[5.0, 3.0, 1.0]]]]) + 6 * hue[..., None]) % 6
    edge = jnp.clip(jnp.minimum(corner, 4 - corner), 0, 1)
    return high[..., None] - spread[..., None] * edge


def shift_brightness(image: jax.Array, shift: jax.Array) -> jax.Array:
    """tf.image.adjust_brightness: image [B, H, W, 3] plus shift [B], not cut to [0, 1]."""
    return image + shift[:, None, None, None]


def scale_contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
    """tf.image.adjust_contrast: distances from each channel's mean times factor [B]."""
    mean = image.mean((1, 2), keepdims=True)
    return mean + factor[:, None, None, None] * (image - mean)


def scale_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
    """tf.image.adjust_saturation: the S of HSV times factor [B], at most 1; V and hue stay."""
    high, low = image.max(-1, keepdims=True), image.min(-1, keepdims=True)
    spread = high - low
    some = (spread > 0) & (high > 0)
    saturation = jnp.where(some, spread / jnp.where(some, high, 1), 0)
    scaled = jnp.clip(saturation * factor[:, None, None, None], 0, 1)
    return high - high * scaled * (high - image) / jnp.where(spread > 0, spread, 1)


# Functions for brightness, contrast, saturation and hue, and the numbers of those that add.
FORMS = {
    "torchvision": ((adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue), (3,)),
    "tensorflow": ((shift_brightness, scale_contrast, scale_saturation, adjust_hue), (0, 3)),
}


def to_gray(image: jax.Array) -> jax.Array:
    """The luma of images [B, H, W, 3] in all three channels."""
    return jnp.broadcast_to((image * jnp.array([[[_LUMA]]])).sum(-1, keepdims=True), image.shape)


def solarize(image: jax.Array, threshold: float) -> jax.Array:
    """Inverts what is at least `threshold` of images in [0, 1]."""
    return jnp.where(image >= threshold, 1 - image, image)


def gaussian_blur(image: jax.Array, sigma: jax.Array, largest: float) -> jax.Array:
    """Blurs each image [B, H, W, C] with its sigma [B] in pixels, edges mirrored.

    The kernel reaches three times `largest`, the largest possible sigma, to each side.
    """
    reach = min(int(3 * largest + 0.5), image.shape[1] - 1, image.shape[2] - 1)
    taps = jnp.arange(-reach, reach + 1)
    kernel = jnp.exp(-0.5 * (taps[None] / sigma[:, None]) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    for axis in (1, 2):
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded, size = jnp.pad(image, pad, mode="reflect"), image.shape[axis]
        image = sum(
            kernel[:, tap, None, None, None]
            * jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis)
            for tap in range(2 * reach + 1)
        )
    return image


def _blend(image: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    factor = factor[:, None, None, None]
    return jnp.clip(factor * image + (1 - factor) * other, 0, 1)


def _choose(which: jax.Array, images: list[jax.Array]) -> jax.Array:
    """For each of the batch the image of the number `which` int32 [B]."""
    result = images[0]
    for number, image in enumerate(images[1:], start=1):
        result = jnp.where((which == number)[:, None, None, None], image, result)
    return result


def _ranges(augment: ml_collections.ConfigDict) -> tuple[float, float, float, float]:
    return augment.brightness, augment.contrast, augment.saturation, augment.hue

"""What happens to a batch on the device, inside the compiled step.

Here is what is the same arithmetic for every image: XLA fuses it into a few passes over the
batch, 1 to 8 us an image on a TPU v5e by its estimate, 28 us for the blur, of 555 us that
ResNet-50 trains on it (benchmarks/augmentations.py). Policies, of which an image gets one
operation in fourteen, are the host's: see `data.images.policies`.
Each image's randomness is a function of (key, epoch, index): the same on any device, in any
batch, and after any restart.
"""

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.augment import color
from imagenet_jax.augment.color import normalize
from imagenet_jax.augment.geometry import (
    alternating_flip,
    drop_lines,
    random_erasing,
    random_flip,
    random_translate,
    turned,
)
from imagenet_jax.augment.keys import example_keys, fold_in
from imagenet_jax.augment.mix import Targets, is_mixing, kept_rows, mix, rows_together

__all__ = [
    "Targets",
    "by_view",
    "eval_image",
    "is_mixing",
    "kept_rows",
    "mirrored_boxes",
    "rows_together",
    "train_boxes",
    "train_image",
    "train_inputs",
    "train_map",
    "train_masks",
    "train_turns",
    "turned",
]


def train_inputs(
    batch: dict[str, jax.Array],
    key: jax.Array,
    step: jax.Array,
    augment: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array | None]:
    """Augmented, normalised and mixed images float32 [B, H, W, 3], smaller with augment.colout.

    And the share float32 [B] that each has of itself, see `mix`; None if none are mixed. With
    augment.mix_per = "half" there are half as many.

    Args:
      batch: see `data.Split`.
      key: of the run.
      step: number of the step, int32 []; decides on what is drawn once per batch.
      augment: config.augment.
    """
    image = train_image(batch, key, augment)
    if augment.colout:
        own = jax.random.fold_in(jax.random.fold_in(key, 2**31 - 2), step)
        image = drop_lines(image, own, augment.colout)
    if not is_mixing(augment):
        return image, None
    return mix(image, batch, key, step, augment)


def by_view(batch: dict[str, jax.Array], views: int) -> dict[str, jax.Array]:
    """A batch of images one above the other [B, views * S, S, 3] as one of views * B images.

    The views of an image are neighbours, and have its keys: they are moved, mirrored and coloured
    together.
    """
    image = batch["image"]
    size = image.shape[1] // views
    rows = {name: jnp.repeat(array, views, 0) for name, array in batch.items() if name != "image"}
    return {"image": image.reshape(-1, size, *image.shape[2:]), **rows}


def train_image(
    batch: dict[str, jax.Array], key: jax.Array, augment: ml_collections.ConfigDict
) -> jax.Array:
    """Augmented and normalised training images float32 [B, H, W, 3], not mixed."""
    image = batch["image"]
    keys = example_keys(key, batch["epoch"], batch["index"])
    if augment.pad:
        image = random_translate(image, fold_in(keys, 0), augment.pad, augment.pad_mode)
    image = _flipped(image, batch, key, augment)
    if color.is_on(augment):
        image = color.random_color(image, fold_in(keys, 2), augment)
    image = normalize(image, augment.mean, augment.std)
    if augment.erase:
        image = random_erasing(image, fold_in(keys, 3), augment)
    return image


def train_turns(batch: dict[str, jax.Array], key: jax.Array, turns: int) -> jax.Array:
    """How training images are turned, int32 [B] of 0 to turns - 1, see `turned`."""
    keys = fold_in(example_keys(key, batch["epoch"], batch["index"]), 5)
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, turns))(keys)


def train_map(
    levels: jax.Array,
    batch: dict[str, jax.Array],
    key: jax.Array,
    augment: ml_collections.ConfigDict,
) -> jax.Array:
    """Maps [B, H, W] of the images of a batch, mirrored as `train_image` mirrors these; there must
    be no augment.pad."""
    return _flipped(levels[..., None], batch, key, augment)[..., 0]


def train_masks(
    masks: jax.Array,
    batch: dict[str, jax.Array],
    key: jax.Array,
    augment: ml_collections.ConfigDict,
) -> jax.Array:
    """Masks [B, M, h, w] within boxes of the images of a batch, as above."""
    return jnp.moveaxis(_flipped(jnp.moveaxis(masks, 1, -1), batch, key, augment), -1, 1)


def train_boxes(
    boxes: jax.Array,
    width: int,
    batch: dict[str, jax.Array],
    key: jax.Array,
    augment: ml_collections.ConfigDict,
) -> jax.Array:
    """Boxes [B, M, 4] of images so wide, mirrored as `train_image` mirrors these; as above."""
    # Whether an image is mirrored shows on two pixels.
    pixels = jnp.broadcast_to(jnp.arange(2.0).reshape(1, 1, 2, 1), (len(boxes), 1, 2, 1))
    is_mirrored = _flipped(pixels, batch, key, augment)[:, :, 0] > 0
    return jnp.where(is_mirrored, mirrored_boxes(boxes, width), boxes)


def mirrored_boxes(boxes: jax.Array, width: int) -> jax.Array:
    """Boxes [..., 4] of images so wide, as they are in their mirror images."""
    left, top, right, bottom = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([width - right, top, width - left, bottom], -1)


def _flipped(
    image: jax.Array,
    batch: dict[str, jax.Array],
    key: jax.Array,
    augment: ml_collections.ConfigDict,
) -> jax.Array:
    """Images [B, H, W, C] mirrored by the keys of the examples."""
    if augment.flip and augment.flip_alternates:
        same = example_keys(key, jnp.zeros_like(batch["epoch"]), batch["index"])
        return alternating_flip(image, fold_in(same, 1), batch["epoch"])
    if augment.flip:
        keys = example_keys(key, batch["epoch"], batch["index"])
        return random_flip(image, fold_in(keys, 1))
    return image


def eval_image(batch: dict[str, jax.Array], augment: ml_collections.ConfigDict) -> jax.Array:
    """Normalised images float32 [B, H, W, 3]."""
    return normalize(batch["image"], augment.mean, augment.std)

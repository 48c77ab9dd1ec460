"""What happens to a batch on the device, inside the compiled step.

Each image's randomness is a function of (key, epoch, index): the same on any device, in
any batch, and after any restart.
"""

import jax
import jax.numpy as jnp
import ml_collections


def train_image(
    batch: dict[str, jax.Array], key: jax.Array, augment: ml_collections.ConfigDict
) -> jax.Array:
    """Translated, mirrored and normalised training images float32 [B, H, W, 3]."""
    image = batch["image"]
    keys = example_keys(key, batch["epoch"], batch["index"])
    if augment.pad:
        image = random_translate(image, fold_in(keys, 0), augment.pad, augment.pad_mode)
    if augment.flip:
        image = random_flip(image, fold_in(keys, 1))
    return normalize(image, augment.mean, augment.std)


def eval_image(batch: dict[str, jax.Array], augment: ml_collections.ConfigDict) -> jax.Array:
    """Normalised images float32 [B, H, W, 3]."""
    return normalize(batch["image"], augment.mean, augment.std)


def normalize(image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(image / 255 - mean) / std for image uint8 [..., 3]; float32."""
    mean, std = jnp.array(mean, jnp.float32), jnp.array(std, jnp.float32)
    return image.astype(jnp.float32) * (1 / (255 * std)) - mean / std


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


def example_keys(key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example [B] from a key and its epoch and index, int32 [B]."""
    return jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(key, e), i))(epoch, index)


def fold_in(keys: jax.Array, data: int) -> jax.Array:
    """`jax.random.fold_in` for keys [B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)

"""Images as the pixels of their patches, and back."""

import jax


def to_patches(image: jax.Array, size: int) -> jax.Array:
    """Images [B, H, W, C] as patches [B, T, size * size * C], row by row; pixels lie in a patch as
    in the image, the channels of one side by side (`patchify` of facebookresearch/mae)."""
    count, height, width, channels = image.shape
    rows, columns = height // size, width // size
    x = image.reshape(count, rows, size, columns, size, channels).swapaxes(2, 3)
    return x.reshape(count, rows * columns, size * size * channels)


def from_patches(patches: jax.Array, size: int, height: int) -> jax.Array:
    """The images [B, height, W, C] that `to_patches` took apart."""
    count, total, length = patches.shape
    rows, channels = height // size, length // size**2
    x = patches.reshape(count, rows, total // rows, size, size, channels).swapaxes(2, 3)
    return x.reshape(count, height, total // rows * size, channels)

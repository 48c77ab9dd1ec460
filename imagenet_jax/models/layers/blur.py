"""The low-pass filter before a stride (Zhang 2019, https://arxiv.org/abs/1904.11486)."""

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide


def blur(x: jax.Array, stride: int = 1) -> jax.Array:
    """The 3x3 binomial filter of x [B, H, W, C], zeros around it, at each `stride`-th pixel.

    As sums of shifted maps, which XLA fuses; as a convolution it would be a depthwise one.
    """
    out = x.astype(wide(x.dtype))
    for axis in (1, 2):
        side = x.shape[axis]
        padded = jnp.pad(out, [(1, 1) if each == axis else (0, 0) for each in range(4)])
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + side, stride, axis) for start in range(3)
        )
        out = (before + 2 * here + after) / 4
    return out.astype(x.dtype)

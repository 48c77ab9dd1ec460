"""The parts that heads of one stage have in common."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers

small = nn.initializers.normal(0.01)
PRIOR = 0.01  # initial probability of each class at each place


def tower(
    maps: Sequence[jax.Array],
    layers: Layers,
    names: Sequence[tuple[str, str]],
    *,
    bias: bool,
) -> list[jax.Array]:
    """3x3 convolutions with ReLU, the same for each of the maps [B, h, w, C].

    Args:
      maps: of the pyramid.
      layers: makes the layers, within a compact module.
      names: of each convolution and of the group norm behind it, "" for none.
      bias: whether convolutions have one.
    """
    for conv_name, norm_name in names:
        how = {"bias": bias, "init": small, "name": conv_name}
        conv = layers.conv(maps[0].shape[-1], 3, **how)
        norm = layers.group_norm(name=norm_name) if norm_name else lambda x: x
        maps = [nn.relu(norm(conv(x))) for x in maps]
    return list(maps)


def said(
    maps: Sequence[jax.Array],
    layers: Layers,
    name: str,
    values: int,
    anchors: int = 1,
    bias: float = 0.0,
    act: Callable[[jax.Array], jax.Array] = lambda x: x,
    kernel: int = 3,
) -> jax.Array:
    """The outputs [B, A, values] of a last convolution, the same for each of the maps.

    Float32 at least; the anchors of a place follow each other, then come those of the next in its
    row.
    """
    inits = {"init": small, "bias_init": nn.initializers.constant(bias)}
    conv = layers.conv(anchors * values, kernel, bias=True, name=name, **inits)
    return joined([conv(x) for x in maps], layers, values, act)


def joined(
    parts: Sequence[jax.Array],
    layers: Layers,
    values: int,
    act: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> jax.Array:
    """Outputs [B, A, values] of those of the maps [B, h, w, anchors * values]; see `said`."""
    dtype = wide(layers.dtype)
    return jnp.concatenate([act(x.astype(dtype)).reshape(x.shape[0], -1, values) for x in parts], 1)

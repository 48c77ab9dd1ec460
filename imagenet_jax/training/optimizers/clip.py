"""Adaptive gradient clipping, and the axes over which a layer's products sum."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.training.optimizers.trust import norm
from imagenet_jax.training.rules import Layers, chosen, path_of


def input_axes(path: tuple[str, ...], axes: int) -> tuple[int, ...]:
    """The axes of a kernel over which each of its outputs sums.

    All but the last: [in, out], convolutions [H, W, in, out], and what joins the heads of Flax's
    attention, out [head, depth, out]; of its query, key and value [in, head, depth] the first.
    """
    if axes == 3 and path[-2:-1] != ("out",):
        return (0,)
    return tuple(range(axes - 1))


def clip_by_unit(
    behind: optax.GradientTransformation, clip: float, layers: Layers, smallest: float = 1e-3
) -> optax.GradientTransformation:
    """Adaptive gradient clipping (Brock et al. 2021, https://arxiv.org/abs/2102.06171), and then
    a transformation, whose state it has.

    The gradient of each unit, what leads to one output of a kernel, and of each other array as a
    whole, is at most `clip` times as long as its parameters, or as `smallest`. Not of the head,
    as in NFNets.
    """

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        def limit(path: Any, gradient: jax.Array, param: jax.Array, head: bool) -> jax.Array:
            if head:
                return gradient
            single = sum(size > 1 for size in param.shape) <= 1 or param.ndim < 2
            axes = None if single else input_axes(path_of(path), param.ndim)
            most = jnp.maximum(norm(param, axes), smallest) * clip
            length = norm(gradient, axes)
            return jnp.where(length > most, gradient * (most / jnp.maximum(length, 1e-6)), gradient)

        heads = chosen(params, ["@head"], layers)
        clipped = jax.tree_util.tree_map_with_path(limit, updates, params, heads)
        return behind.update(clipped, state, params)

    return optax.GradientTransformation(behind.init, update)

"""Muon: momentum made orthogonal for matrices, Adam for the rest."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from imagenet_jax.training.optimizers.clip import input_axes
from imagenet_jax.training.optimizers.trust import norm
from imagenet_jax.training.rules import Layers, Path, chosen, path_of

# Of the fifth degree, steepest at 0: singular values come to lie between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonState(NamedTuple):
    """The momentum or first moment of all, and the second moment of what Adam moves."""

    count: jax.Array
    mu: Any
    nu: Any


def is_matrix(params: Any, layers: Layers) -> Any:
    """True for what Muon moves: kernels that are neither the head nor the stem (the first
    layer), and no depthwise convolutions, whose filters are no matrices."""

    def take(path: Any, leaf: Any, head: bool, stem: bool) -> bool:
        kernel = path_of(path)[-1] in ("kernel", "lora_a", "lora_b") and len(leaf.shape) > 1
        return kernel and not (head or stem) and leaf.shape[-2] > 1

    heads, stems = (chosen(params, [name], layers) for name in ("@head", "@stem"))
    return jax.tree_util.tree_map_with_path(take, params, heads, stems)


def orthogonal(matrix: jax.Array, steps: int) -> jax.Array:
    """Newton and Schulz's iteration: about U V^T of a matrix U S V^T, float32 [in, out]."""
    a, b, c = _COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix

    def step(_: int, x: jax.Array) -> jax.Array:
        square = x @ x.T
        return a * x + (b * square + c * square @ square) @ x

    x = jax.lax.fori_loop(0, steps, step, wide / (norm(wide) + 1e-7))
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def scale_by_muon(
    momentum: float,
    nesterov: bool,
    steps: int,
    scale: str,
    adam: Sequence[float],
    layers: Layers,
    mu_dtype: Any = None,
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Kernels are matrices [in, out]: convolutions [H W in, out], as in its authors' code.

    Args:
      momentum, nesterov: of the matrices, an average of the gradients.
      steps: of Newton and Schulz's iteration.
      scale: "shape": updates times sqrt(max(1, out / in)), as its authors'; "rms": times
        0.2 sqrt(max(in, out)), which is AdamW's size (https://arxiv.org/abs/2502.16982).
      adam: b1, b2 and eps for the other parameters.
      layers: of the model, see `is_matrix`.
      mu_dtype: in which the momentum and the first moment are kept.
    """
    b1, b2, eps = adam

    def init(params: Any) -> MuonState:
        mu = optax.tree.zeros_like(params, dtype=mu_dtype)
        nu = jax.tree.map(
            lambda param, matrix: None if matrix else jnp.zeros_like(param),
            *(params, is_matrix(params, layers)),
        )
        return MuonState(jnp.zeros((), jnp.int32), mu, nu)

    def adam_step(g: jax.Array, mu: jax.Array, nu: jax.Array, count: jax.Array) -> Any:
        mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * g**2
        return mu / (1 - b1**count) / (jnp.sqrt(nu / (1 - b2**count)) + eps), mu, nu

    def muon_step(path: Path, g: jax.Array, mu: jax.Array) -> Any:
        mu = momentum * mu + (1 - momentum) * g
        ahead = momentum * mu + (1 - momentum) * g if nesterov else mu
        inputs = math.prod(g.shape[axis] for axis in input_axes(path, g.ndim))
        flat = orthogonal(ahead.reshape(inputs, -1), steps)
        outputs = flat.shape[1]
        shape_size = max(1.0, outputs / inputs) ** 0.5
        size = shape_size if scale == "shape" else 0.2 * max(inputs, outputs) ** 0.5
        return (size * flat).reshape(g.shape), mu, None

    def update(updates: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        count = state.count + 1
        leaves, tree = jax.tree_util.tree_flatten_with_path(updates)
        mus, nus = tree.flatten_up_to(state.mu), tree.flatten_up_to(state.nu)
        moved = [
            muon_step(path_of(path), g, mu) if nu is None else adam_step(g, mu, nu, count)
            for (path, g), mu, nu in zip(leaves, mus, nus, strict=True)
        ]
        updates, mu, nu = (tree.unflatten(part) for part in zip(*moved, strict=True))
        return updates, MuonState(count, optax.tree.cast(mu, mu_dtype), nu)

    return optax.GradientTransformation(init, update)


def scale_to_adam(ratio: float, layers: Layers) -> optax.GradientTransformation:
    """Multiplies the updates of what Adam moves by the ratio of its rate to Muon's."""

    def scale(updates: Any, params: Any) -> Any:
        matrices = is_matrix(updates, layers)
        return jax.tree.map(lambda matrix, u: u if matrix else ratio * u, matrices, updates)

    return optax.stateless(scale)

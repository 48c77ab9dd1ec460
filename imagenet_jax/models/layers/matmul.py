"""The product of the linear layers, with the gradient of its kernel as a CPU likes it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.bilinear import bilinear
from imagenet_jax.models.layers.platforms import CPU, choose


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x @ kernel, [..., D] of x [..., C] and kernel [C, D]."""
    return choose(CPU, _on_cpu, jnp.matmul, x, kernel)


def dot_general(
    x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any
) -> jax.Array:
    """jax.lax.dot_general as a linear layer of Flax calls it."""
    plain = partial(jax.lax.dot_general, dimension_numbers=dimension_numbers, **options)
    own = any(option is not None for option in options.values())  # e.g. a precision
    if own or dimension_numbers != (((x.ndim - 1,), (0,)), ((), ())):
        return plain(x, kernel)
    return choose(CPU, _on_cpu, plain, x, kernel)


def _of_x(dy: jax.Array, kernel: jax.Array, **_: Any) -> jax.Array:
    return dy @ kernel.T


def _of_kernel(x: jax.Array, dy: jax.Array, **_: Any) -> jax.Array:
    """x' dy. XLA transposes the first factor in memory: the narrower one, and the result back."""
    x, dy = (array.reshape(-1, array.shape[-1]) for array in (x, dy))
    if x.shape[1] <= dy.shape[1]:
        return x.T @ dy
    return jax.lax.optimization_barrier(dy.T @ x).T  # else XLA would turn it around again


_on_cpu = bilinear("matmul", jnp.matmul, _of_x, _of_kernel)

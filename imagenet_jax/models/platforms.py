"""What is cheap on one kind of device and not on another, chosen when a program is lowered."""

from collections.abc import Callable
from typing import Any

import jax

GPU, TPU = ("cuda", "rocm"), ("tpu",)


def choose(platforms: tuple[str, ...], this: Callable, other: Callable, *args: Any) -> Any:
    """this(*args) where the program is for one of `platforms`, elsewhere other(*args).

    Both have to compute the same, but for rounding.
    """
    return jax.lax.platform_dependent(*args, **dict.fromkeys(platforms, this), default=other)


def stored(platforms: tuple[str, ...], x: jax.Array) -> jax.Array:
    """x; on `platforms` as an array in memory, which XLA does not compute again for each use."""
    return choose(platforms, jax.lax.optimization_barrier, lambda x: x, x)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), of which a GPU keeps the result for the backward pass, and not x too."""
    return stored(GPU, jax.nn.relu(x))


@relu.defjvp
def _relu_jvp(primals: tuple, tangents: tuple) -> tuple:
    out = relu(*primals)
    return out, jax.lax.select(out > 0, tangents[0], jax.numpy.zeros_like(out))

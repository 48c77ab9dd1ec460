"""What is cheap on one kind of device and not on another, chosen when a program is traced."""

from collections.abc import Callable
from typing import Any

import jax

CPU, GPU, TPU = ("cpu",), ("cuda", "rocm"), ("tpu",)

# with lowering_for("tpu"): what is traced in it will only ever be lowered for that platform.
lowering_for = jax.make_user_context(None)
PLAIN = "none"  # lowering_for(PLAIN): for shapes and counts, of the form that has no platform


def platform_of(device: jax.Device) -> str:
    """The name of a device's platform where programs are lowered: cpu, tpu, cuda or rocm."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "rocm" in device.client.platform_version else "cuda"


def choose(platforms: tuple[str, ...], this: Callable, other: Callable, *args: Any) -> Any:
    """this(*args) where the program is for one of `platforms`, elsewhere other(*args).

    Both have to compute the same, but for rounding. Outside of `lowering_for` both are traced,
    and one is chosen when the program is lowered.
    """
    known = lowering_for.value
    if known is not None:
        return (this if known in platforms else other)(*args)
    return jax.lax.platform_dependent(*args, **dict.fromkeys(platforms, this), default=other)


def stored(platforms: tuple[str, ...], x: jax.Array) -> jax.Array:
    """x; on `platforms` as an array in memory, which XLA does not compute again for each use."""
    return choose(platforms, jax.lax.optimization_barrier, lambda x: x, x)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), of which CPUs and GPUs keep the result for the backward pass, and not x too."""
    return stored(CPU + GPU, jax.nn.relu(x))


@relu.defjvp
def _relu_jvp(primals: tuple, tangents: tuple) -> tuple:
    out = relu(*primals)
    return out, jax.lax.select(out > 0, tangents[0], jax.numpy.zeros_like(out))


def relu6(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 6); in what is exported one operation, which runtimes join with others."""
    if lowering_for.value == PLAIN:
        return jax.numpy.clip(x, 0, 6)
    return jax.nn.relu6(x)

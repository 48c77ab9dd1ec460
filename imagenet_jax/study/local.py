"""What is known of an attached device: from the table, or for a CPU from a short measurement."""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from imagenet_jax.study.chips import CHIPS, Chip

# What the device calls itself, where that is not the name in the table.
_KINDS = {
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "TPU7x": "tpu7x",
    "NVIDIA GeForce RTX 3090": "rtx3090",
    "NVIDIA GeForce RTX 4090": "rtx4090",
}


def local_chip(device: jax.Device) -> Chip:
    """The facts of an attached device; those of a CPU or of an unknown device are measured."""
    kind = device.device_kind
    if kind in _KINDS:
        return CHIPS[_KINDS[kind]]
    for name, chip in CHIPS.items():
        if name.upper() in kind.upper():
            return chip
    return _measured(device)


def _measured(device: jax.Device) -> Chip:
    """Of one device: a product of matrices and a sum over memory; a share of a CPU's cores."""
    if device.platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.device_count()
    else:
        memory = device.memory_stats()["bytes_limit"]
    side, count = 1024, 1 << 25
    square = jax.device_put(jnp.ones((side, side)), device)
    long = jax.device_put(jnp.ones(count), device)
    return Chip(
        name=device.device_kind,
        platform=device.platform,
        flops=2 * side**3 / _seconds(lambda x: x @ x, square),
        hbm_bytes=memory,
        hbm_bandwidth=8 * count / _seconds(lambda x: x + 1, long),
        link_bandwidth=8 * count / _seconds(lambda x: x + 1, long),
        clock=0.0,
        source="measured on this machine, float32",
    )


def _seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """The shortest of five runs."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(x))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(compiled(x))
        times.append(time.perf_counter() - start)
    return min(times)

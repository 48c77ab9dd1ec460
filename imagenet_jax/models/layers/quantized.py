"""Convolutions and linear layers as int8 hardware computes them, rounded in floating point."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import tree_leaves_with_path

from imagenet_jax.errors import ConfigError

RANGES = "ranges"  # the collection in which `Quantized` says what it sees, if it is mutable
NAME = "quantized"  # of each such module in its layer
_CALLS = "_calls_of_quantized"
_LEVELS = 255  # steps between the least and the largest int8
_LARGEST = 127  # of a kernel; -128 stays unused, as runtimes want it


class Quantized(nn.Module):
    """A product of x and a kernel, both rounded to int8 and back (Jacob et al. 2018).

    Flax makes it in place of `conv_general_dilated` or `dot_general`. Kernels are symmetric with
    one scale for each output channel, x has one scale and a zero point that is a level. Gradients
    go straight through the rounding, but not to values out of range.

    The range of x is in "batch_stats", as the statistics of BatchNorm are: in training it moves
    with the means of the extremes of the examples of a batch, the first ones at once. While it is
    empty nothing is rounded.

    https://arxiv.org/abs/1712.05877; the means over examples as in https://github.com/google/qwix.

    Attributes:
      product: of x and kernel.
      skip: regular expressions; kernels whose path has one of them are not rounded, nor is x.
      momentum: share of the old range kept in a step.
      axis_name: mapped axis over which the batch is spread under shard_map or pmap.
    """

    product: Callable[..., jax.Array]
    skip: Sequence[str] = ()
    momentum: float = 0.9
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """The product of x [B, ..., C] and kernel [..., D]."""
        layer = "/".join((*self.path[:-1], "kernel"))
        if any(re.search(pattern, layer) for pattern in self.skip):
            return self.product(x, kernel, *args, **options)
        low = self.variable("batch_stats", "low", jnp.zeros, (), jnp.float32)
        high = self.variable("batch_stats", "high", jnp.zeros, (), jnp.float32)
        least, most = _extremes(x)
        if self.is_mutable_collection(RANGES):
            self.sow(RANGES, "low", least, jnp.minimum, lambda: jnp.inf)
            self.sow(RANGES, "high", most, jnp.maximum, lambda: -jnp.inf)
            return self.product(x, kernel, *args, **options)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            self._move(low, high, least.mean(), most.mean())
        x = round_to_range(x, low.value, high.value)
        rounded = jnp.where(high.value > low.value, round_kernel(kernel), kernel)
        return self.product(x, rounded, *args, **options)

    def _move(self, low: Any, high: Any, least: jax.Array, most: jax.Array) -> None:
        """The range towards the extremes of a batch; an empty one gets them.

        Of a layer that is called several times, as for each map of a pyramid, these are of all.
        """
        if self.axis_name:
            least, most = jax.lax.pmean((least, most), self.axis_name)
        calls = vars(self.scope.root).setdefault(_CALLS, {})  # of this pass over the network
        old = calls.get(self.path, (low.value, high.value, least, most))
        least, most = jnp.minimum(old[2], least), jnp.maximum(old[3], most)
        calls[self.path] = (*old[:2], least, most)
        empty, keep = old[1] <= old[0], self.momentum
        low.value = jnp.where(empty, least, keep * old[0] + (1 - keep) * least)
        high.value = jnp.where(empty, most, keep * old[1] + (1 - keep) * most)


def is_range(path: Sequence[str]) -> bool:
    """Whether the variable at a path is the end of a range."""
    return len(path) > 1 and path[-2] == NAME


def rounded_layers(batch_stats: Any) -> list[str]:
    """The paths of the layers that have a range, as "layer1.0/conv1", in order."""
    leaves = tree_leaves_with_path(batch_stats)
    paths = [[key.key for key in path] for path, _ in leaves]
    return list(dict.fromkeys("/".join(path[:-2]) for path in paths if is_range(path)))


def without_ranges(batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a model's batch_stats in floating point."""
    kept = {name: value for name, value in batch_stats.items() if name != NAME}
    inner = {k: without_ranges(v) if isinstance(v, Mapping) else v for k, v in kept.items()}
    return {k: v for k, v in inner.items() if not isinstance(v, Mapping) or v}


def check_skip(skip: Sequence[str], params: Any, model: str) -> None:
    """Raises ConfigError for a pattern of `Quantized.skip` that finds no kernel of a model."""
    paths = ["/".join(key.key for key in path) for path, _ in tree_leaves_with_path(params)]
    for pattern in skip:
        if not any(re.search(pattern, path) for path in paths if path.endswith("kernel")):
            raise ConfigError(
                f"config.model.quantize_skip: {pattern!r} finds no kernel of {model}, such as "
                f"{next(path for path in paths if path.endswith('kernel'))!r}"
            )


def told_of_rounded(variables: Mapping[str, Any]) -> str:
    """How many layers are rounded, and which are not, for people.

    Args:
      variables: params and batch_stats, arrays or shapes.
    """
    rounded = rounded_layers(variables["batch_stats"])
    leaves = tree_leaves_with_path(variables["params"])
    paths = [[key.key for key in path] for path, _ in leaves]
    layers = ["/".join(path[:-1]) for path in paths if path[-1].endswith("kernel")]
    others = [layer for layer in layers if layer not in rounded]
    return f"{len(rounded)} layers; as they are: {', '.join(others) or 'none'}"


def _extremes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Those of each example of x [B, ...] and zero, which padding adds, float32 [B]."""
    x, axes = jax.lax.stop_gradient(x).astype(jnp.float32), range(1, x.ndim)
    return jnp.minimum(x.min(axes), 0), jnp.maximum(x.max(axes), 0)


@jax.custom_jvp
def round_to_range(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """x at the nearest of 256 levels from `low` to `high`, of which zero is one.

    Args:
      x: of any shape.
      low, high: float32 []; low <= 0 <= high. x itself where they are the same.

    Returns:
      As x, of its type.
    """
    scale, zero = _grid(low, high)
    levels = jnp.clip(jnp.round(x.astype(jnp.float32) / scale) + zero, 0, _LEVELS)
    return jnp.where(high > low, (levels - zero) * scale, x).astype(x.dtype)


@round_to_range.defjvp
def _round_to_range_jvp(primals: tuple, tangents: tuple) -> tuple:
    x, low, high = primals
    scale, zero = _grid(low, high)
    level = jnp.round(x.astype(jnp.float32) / scale) + zero
    inside = ((level >= 0) & (level <= _LEVELS)) | (high <= low)
    return round_to_range(*primals), jnp.where(inside, tangents[0], 0)


def _grid(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The distance of two levels, and the number of the level that is zero."""
    scale = jnp.where(high > low, (high - low) / _LEVELS, 1.0)
    return scale, jnp.round(-low / scale)


@jax.custom_jvp
def round_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel [..., D] at the nearest of 255 levels, from minus to plus the largest magnitude of
    each of the D output channels."""
    wide = kernel.astype(jnp.float32)
    largest = jnp.abs(wide).max(range(kernel.ndim - 1), keepdims=True)
    scale = jnp.where(largest > 0, largest / _LARGEST, 1.0)
    levels = jnp.clip(jnp.round(wide / scale), -_LARGEST, _LARGEST)
    return (levels * scale).astype(kernel.dtype)


@round_kernel.defjvp
def _round_kernel_jvp(primals: tuple, tangents: tuple) -> tuple:
    return round_kernel(*primals), tangents[0]

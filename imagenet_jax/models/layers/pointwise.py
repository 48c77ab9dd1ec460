"""1x1 convolutions whose batch statistics are known before they run.

With y = x W for every pixel, mean(y) = mean(x) W and var(y) = diag(W' Cov(x) W): the moments of
the narrow input give the statistics of the wide output. So normalisation, shortcut and ReLU join
the convolution in one pass, the raw y is never written, and the backward pass, where the gradient
of the scale is sum(W * dW), never reads it. It costs a second, small matrix product each way.

As the scale is known it goes into the kernel, and two such convolutions that are added, as in the
first block of a stage, are one product of their inputs side by side.
"""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.platforms import GPU, TPU, choose
from imagenet_jax.models.layers.sums import Arrays, cheap_sums, sums_with

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums [G, C] of x and [G, C, C] of x x', over the pixels of x [G, N, H, W, C].

    In float32 at least. The gradient of the latter has to be symmetric, as that of
    `product_statistics` is.
    """
    return cheap_sums(x), products((x,), x)[0]


def products(xs: Sequence[jax.Array], y: jax.Array) -> tuple[jax.Array, ...]:
    """x' y [G, C, D] over the pixels, in float32 at least, for each x [G, N, H, W, C].

    Args:
      xs: the inputs, each with its C.
      y: [G, N, H, W, D].
    """
    product = partial(jnp.einsum, "gnhwc,gnhwd->gcd", preferred_element_type=wide(y.dtype))
    return tuple(product(x, y) for x in xs)


def joined_products(xs: Sequence[jax.Array], y: jax.Array) -> tuple[jax.Array, ...]:
    """The same as one product, which reads y once."""
    return _apart(products((jnp.concatenate(xs, -1),), y)[0], [x.shape[-1] for x in xs], 1)


def _apart(array: jax.Array, sizes: Sequence[int], axis: int) -> tuple[jax.Array, ...]:
    return tuple(jnp.split(array, list(accumulate(sizes))[:-1], axis))


def _moments_backward(x: jax.Array, gradient: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    first, second = gradient
    second = (2 * second).astype(x.dtype)
    product = jnp.einsum("gnhwd,gcd->gnhwc", x, second, preferred_element_type=x.dtype)
    return ((product + first[:, None, None, None]).astype(x.dtype),)


moments.defvjp(lambda x: (moments(x), x), _moments_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def product_statistics(
    first: jax.Array, second: jax.Array, kernel: jax.Array, count: float, local: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance [G, D] of x @ kernel, from the moments of x.

    Args:
      first, second: see `moments`.
      kernel: [C, D].
      count: of pixels that they sum up.
      local: whether the program is one device's, or its groups are: XLA's partitioner would move
        the parts of what is joined between devices.
    """
    return _statistics_forward(first, second, kernel, count, local)[0]


def _statistics_forward(
    first: jax.Array, second: jax.Array, kernel: jax.Array, count: float, local: bool
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    mean = first / count
    covariance = second / count - mean[:, :, None] * mean[:, None, :]
    platforms = GPU if local else ()
    product, mean_out = choose(platforms, _one_product, _two_products, covariance, mean, kernel)
    variance = (kernel[None] * product).sum(1)
    return (mean_out, jnp.maximum(variance, 0)), (mean, kernel, product, mean_out, variance)


def _one_product(covariance: jax.Array, mean: jax.Array, kernel: jax.Array) -> Arrays:
    product = _matmul(jnp.concatenate([covariance, mean[:, None]], 1), kernel)
    return product[:, :-1], product[:, -1]


def _two_products(covariance: jax.Array, mean: jax.Array, kernel: jax.Array) -> Arrays:
    return _matmul(covariance, kernel), _matmul(mean, kernel)


def _statistics_backward(
    count: float,
    local: bool,
    residuals: tuple[jax.Array, ...],
    gradient: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, ...]:
    """By the symmetry of the covariance, without another product with it."""
    mean, kernel, product, mean_out, variance = residuals
    of_mean, of_variance = gradient
    of_variance = jnp.where(variance > 0, of_variance, 0)
    weighted = kernel[None] * (of_variance / count)[:, None]
    shifted = (of_mean - 2 * of_variance * mean_out) / count
    return (
        (kernel[None] * shifted[:, None]).sum(2),
        _matmul(weighted, kernel.T),
        (mean[:, :, None] * of_mean[:, None] + 2 * product * of_variance[:, None]).sum(0),
    )


product_statistics.defvjp(_statistics_forward, _statistics_backward)


class Product(NamedTuple):
    """x @ kernel * scale + shift, [G, N, H, W, D] in x's dtype, which `add` computes.

    Attributes:
      x: [G, N, H, W, C].
      kernel: [C, D], float32 at least; with the scale in it, multiplied in x's dtype.
      scale, shift: [G, D], as kernel.
      local: see `product_statistics`.
    """

    x: jax.Array
    kernel: jax.Array
    scale: jax.Array
    shift: jax.Array
    local: bool = False


def add(*parts: jax.Array | Product) -> jax.Array:
    """The sum [B, H, W, D] of arrays of that shape and products with B = G N."""
    arrays = [part for part in parts if not isinstance(part, Product)]
    terms = [part for part in parts if isinstance(part, Product)]
    if terms:
        xs, kernels, scales, shifts, local = zip(*terms, strict=True)
        out = _scaled_sum(xs, kernels, scales, sum(shifts), all(local))
        arrays.insert(0, out.reshape(out.shape[0] * out.shape[1], *out.shape[2:]))
    return reduce(jnp.add, arrays)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _scaled_sum(
    xs: Arrays, kernels: Arrays, scales: Arrays, shift: jax.Array, local: bool
) -> jax.Array:
    """Sum of x @ kernel * scale, plus shift."""
    x, kernel = jnp.concatenate(xs, -1), _scaled(kernels, scales, xs[0].dtype)
    y = jnp.einsum("gnhwc,gcd->gnhwd", x, kernel, preferred_element_type=x.dtype)
    return (y.astype(shift.dtype) + shift[:, None, None, None]).astype(x.dtype)


def _scaled(kernels: Arrays, scales: Arrays, dtype: jnp.dtype) -> jax.Array:
    parts = [kernel[None] * scale[:, None] for kernel, scale in zip(kernels, scales, strict=True)]
    return jnp.concatenate(parts, 1).astype(dtype)


def _forward(
    xs: Arrays, kernels: Arrays, scales: Arrays, shift: jax.Array, local: bool
) -> tuple[jax.Array, tuple[Arrays, ...]]:
    return _scaled_sum(xs, kernels, scales, shift, local), (xs, kernels, scales)


def _backward(
    local: bool, residuals: tuple[Arrays, ...], gradient: jax.Array
) -> tuple[Arrays | jax.Array, ...]:
    xs, kernels, scales = residuals
    kernel = _scaled(kernels, scales, gradient.dtype)
    of_x = jnp.einsum("gnhwd,gcd->gnhwc", gradient, kernel, preferred_element_type=gradient.dtype)
    outer = choose(TPU, joined_products, products, xs, gradient)
    weighted = [part * kernel[None] for part, kernel in zip(outer, kernels, strict=True)]
    of_shift, *of_scales = sums_with(gradient, *weighted, local=local)
    return (
        _apart(of_x, [x.shape[-1] for x in xs], -1),
        tuple((part * s[:, None]).sum(0) for part, s in zip(outer, scales, strict=True)),
        tuple(of_scales),
        of_shift,
    )


_scaled_sum.defvjp(_forward, _backward)

"""A 1x1 convolution whose batch statistics are known before it runs.

With y = x W for every pixel, mean(y) = mean(x) W and var(y) = diag(W' Cov(x) W): the moments of
the narrow input give the statistics of the wide output. So normalisation, shortcut and ReLU join
the convolution in one pass, the raw y is never written, and the backward pass, where the gradient
of the scale is sum(W * dW), never reads it. It costs a second, small matrix product each way.
"""

from functools import partial

import jax
import jax.numpy as jnp

LANES = 8  # channels of ones: the least that keeps rows aligned on a TPU


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean [G, C] and E[x x'] [G, C, C] of the pixels of x [G, N, H, W, C], in float32 at least."""
    second, first = product_and_sums(x, x)
    return first / x[0, ..., 0].size, second / x[0, ..., 0].size


def product_and_sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x' y [G, C, D] and the sums of y [G, D] over the pixels, in float32 at least.

    Args:
      x: [G, N, H, W, C].
      y: [G, N, H, W, D].
    """
    return jax.lax.platform_dependent(x, y, tpu=by_columns_of_ones, default=_apart)


def by_columns_of_ones(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`product_and_sums` in one product, on TPUs: x is widened on its way into the matrix unit.

    A GPU would write the widened x to memory first, and keep it for the backward pass.
    """
    ones = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, LANES)], constant_values=1)
    wide = jnp.promote_types(jnp.float32, x.dtype)
    sums = jnp.einsum("gnhwc,gnhwd->gcd", ones, y, preferred_element_type=wide)
    return sums[:, : x.shape[-1]], sums[:, -1]


def _apart(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = jnp.promote_types(jnp.float32, x.dtype)
    product = jnp.einsum("gnhwc,gnhwd->gcd", x, y, preferred_element_type=wide)
    return product, y.sum((1, 2, 3), dtype=wide)


def _moments_backward(x: jax.Array, gradient: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    first, second = (part / x[0, ..., 0].size for part in gradient)
    second = (second + second.swapaxes(1, 2)).astype(x.dtype)
    product = jnp.einsum("gnhwd,gcd->gnhwc", x, second, preferred_element_type=x.dtype)
    return ((product + first[:, None, None, None].astype(x.dtype)),)


moments.defvjp(lambda x: (moments(x), x), _moments_backward)


def product_statistics(
    mean: jax.Array, second: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance [G, D] of x @ kernel, from the moments of x.

    Args:
      mean, second: see `moments`.
      kernel: [C, D].
    """
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    covariance = second - mean[:, :, None] * mean[:, None, :]
    variance = (kernel * product(covariance, kernel)).sum(1)
    return product(mean, kernel), jnp.maximum(variance, 0)


@jax.custom_vjp
def scaled_product(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """(x @ kernel) * scale + shift, [G, N, H, W, D] in x's dtype, for one scale per group.

    Args:
      x: [G, N, H, W, C].
      kernel: [C, D], float32 at least; multiplied in x's dtype.
      scale, shift: [G, D], as kernel.
    """
    y = jnp.einsum("gnhwc,cd->gnhwd", x, kernel.astype(x.dtype), preferred_element_type=x.dtype)
    scale, shift = (array[:, None, None, None, :] for array in (scale, shift))
    return (y.astype(scale.dtype) * scale + shift).astype(x.dtype)


def _forward(
    x: jax.Array, kernel: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return scaled_product(x, kernel, scale, shift), (x, kernel, scale)


def _backward(residuals: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    x, kernel, scale = residuals
    outer, total = product_and_sums(x, gradient)
    scaled = (kernel * scale[:, None, :]).astype(x.dtype)
    return (
        jnp.einsum("gnhwd,gcd->gnhwc", gradient, scaled, preferred_element_type=x.dtype),
        (outer * scale[:, None, :]).sum(0),
        (outer * kernel).sum(1),
        total,
    )


scaled_product.defvjp(_forward, _backward)

"""A 1x1 convolution whose batch statistics are known before it runs.

With y = x W for every pixel, mean(y) = mean(x) W and var(y) = diag(W' Cov(x) W): the moments of
the narrow input give the statistics of the wide output. So normalisation, shortcut and ReLU join
the convolution in one pass, the raw y is never written, and the backward pass, where the gradient
of the scale is sum(W * dW), never reads it. It costs a second, small matrix product each way.
"""

from functools import partial

import jax
import jax.numpy as jnp

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.custom_vjp
def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean [G, C] and E[x x'] [G, C, C] of the pixels of x [G, N, H, W, C], in float32 at least.

    The gradient of the latter has to be symmetric, as that of `product_statistics` is.
    """
    second, first = product_and_sums(x, x)
    return first / x[0, ..., 0].size, second / x[0, ..., 0].size


def product_and_sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x' y [G, C, D] and the sums of y [G, D] over the pixels, in float32 at least.

    Args:
      x: [G, N, H, W, C].
      y: [G, N, H, W, D].
    """
    wide = jnp.promote_types(jnp.float32, x.dtype)
    product = jnp.einsum("gnhwc,gnhwd->gcd", x, y, preferred_element_type=wide)
    return product, y.sum((1, 2, 3), dtype=wide)


def _moments_backward(x: jax.Array, gradient: tuple[jax.Array, jax.Array]) -> tuple[jax.Array]:
    first, second = (part / x[0, ..., 0].size for part in gradient)
    second = (2 * second).astype(x.dtype)
    product = jnp.einsum("gnhwd,gcd->gnhwc", x, second, preferred_element_type=x.dtype)
    return ((product + first[:, None, None, None].astype(x.dtype)),)


moments.defvjp(lambda x: (moments(x), x), _moments_backward)


@jax.custom_vjp
def product_statistics(
    mean: jax.Array, second: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance [G, D] of x @ kernel, from the moments of x.

    Args:
      mean, second: see `moments`.
      kernel: [C, D].
    """
    return _statistics_forward(mean, second, kernel)[0]


def _statistics_forward(
    mean: jax.Array, second: jax.Array, kernel: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    covariance = second - mean[:, :, None] * mean[:, None, :]
    product, mean_out = _matmul(covariance, kernel), _matmul(mean, kernel)
    variance = (kernel * product).sum(1)
    return (mean_out, jnp.maximum(variance, 0)), (mean, kernel, product, mean_out, variance)


def _statistics_backward(
    residuals: tuple[jax.Array, ...], gradient: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, ...]:
    """By the symmetry of the covariance, without another product with it."""
    mean, kernel, product, mean_out, variance = residuals
    of_mean, of_variance = gradient
    of_variance = jnp.where(variance > 0, of_variance, 0)
    weighted = kernel * of_variance[:, None]
    shifted = of_mean - 2 * of_variance * mean_out
    return (
        (kernel * shifted[:, None]).sum(2),
        _matmul(weighted, kernel.T),
        (mean[:, :, None] * of_mean[:, None] + 2 * product * of_variance[:, None]).sum(0),
    )


product_statistics.defvjp(_statistics_forward, _statistics_backward)


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

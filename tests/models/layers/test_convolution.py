"""The forms that convolutions have on a CPU, against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.convolution import convolution
from imagenet_jax.models.layers.platforms import lowering_for

DIMENSIONS = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def result_and_gradients(x, kernel, *, strides, padding, groups, dilation=(1, 1)):
    """Traced for a TPU: by XLA's own convolution."""
    options = {"feature_group_count": groups, "rhs_dilation": dilation, **DIMENSIONS}

    def function(x, kernel):
        return convolution(x, kernel, strides, padding, **options)

    y, pullback = jax.vjp(function, x, kernel)
    return y, *pullback(draw(*y.shape, seed=2))


# (channels, groups, results): one group, depthwise, groups, depthwise with two results a channel.
@pytest.mark.parametrize(
    ("channels", "size", "window", "strides", "padding", "dilation"),
    [
        ((4, 1, 6), (7, 6), (1, 1), (2, 3), "VALID", (1, 1)),
        ((4, 1, 6), (2, 2), (3, 3), (1, 1), "SAME", (1, 1)),
        ((4, 1, 6), (1, 3), (5, 3), (2, 2), ((2, 2), (1, 1)), (1, 1)),
        ((4, 1, 6), (4, 4), (3, 3), (2, 2), ((0, 2), (3, 1)), (1, 1)),
        ((4, 4, 4), (7, 6), (3, 3), (1, 1), "SAME", (1, 1)),
        ((4, 4, 4), (7, 6), (5, 3), (2, 2), ((2, 2), (1, 1)), (1, 1)),
        ((4, 4, 4), (7, 6), (3, 3), (3, 1), ((0, 2), (3, 1)), (1, 1)),
        ((4, 4, 4), (2, 2), (2, 1), (2, 2), "VALID", (1, 1)),
        ((6, 3, 12), (7, 6), (3, 3), (2, 1), "SAME", (1, 1)),
        ((6, 3, 12), (5, 5), (1, 1), (1, 1), "VALID", (1, 1)),
        ((4, 4, 8), (7, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
        ((4, 1, 48), (36, 35), (3, 3), (1, 1), "SAME", (1, 1)),
        ((4, 1, 6), (5, 6), (3, 3), (1, 1), "SAME", (2, 2)),
        ((4, 1, 48), (36, 35), (3, 3), (1, 1), "SAME", (2, 1)),
        ((4, 4, 4), (9, 8), (3, 3), (1, 1), ((2, 2), (4, 4)), (2, 4)),
        ((4, 4, 4), (9, 8), (5, 3), (2, 3), "SAME", (2, 3)),
        ((4, 4, 4), (9, 8), (3, 2), (3, 2), ((0, 2), (3, 1)), (2, 2)),
        ((6, 3, 12), (9, 8), (3, 3), (2, 1), "SAME", (2, 2)),
    ],
)
def test_results_and_gradients_are_xlas(channels, size, window, strides, padding, dilation):
    inner, groups, outer = channels
    x, kernel = draw(4, *size, inner), draw(*window, inner // groups, outer, seed=1)
    found = []
    for platform in ("cpu", "tpu"):
        with lowering_for(platform):
            compute = functools.partial(
                result_and_gradients,
                strides=strides,
                padding=padding,
                groups=groups,
                dilation=dilation,
            )
            found.append(jax.jit(compute)(x, kernel))
    for name, ours, theirs in zip(("y", "dx", "dw"), *found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max(), err_msg=name)


def test_parts_of_a_batch_are_put_together_in_order():
    x, kernel = draw(96, 9, 18, 48), draw(3, 3, 48, 48, seed=1)
    found = []
    for platform in ("cpu", "tpu"):
        with lowering_for(platform):
            compute = functools.partial(
                result_and_gradients, strides=(2, 1), padding="SAME", groups=1
            )
            found.append(jax.jit(compute)(x, kernel))
    for name, ours, theirs in zip(("y", "dx", "dw"), *found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize(
    ("shape", "kernel", "groups", "dilation", "convolutions"),
    [
        ((2, 8, 8, 16), (1, 1, 16, 8), 1, 1, 0),  # a product
        ((2, 2, 2, 16), (3, 3, 16, 8), 1, 1, 0),  # a product for each pixel
        ((2, 8, 8, 16), (3, 3, 1, 16), 16, 1, 0),  # shifted maps
        ((2, 8, 8, 16), (3, 3, 16, 8), 1, 1, 3),
        ((2, 8, 8, 128), (3, 3, 8, 128), 16, 1, 6),  # two times eight groups
        ((2, 8, 8, 16), (3, 3, 1, 16), 16, 2, 0),
        ((2, 8, 8, 128), (3, 3, 8, 128), 16, 4, 6),
        ((4, 40, 40, 4), (3, 3, 4, 64), 1, 1, 6),  # the result in four parts of the batch
        ((4, 40, 40, 64), (3, 3, 64, 4), 1, 1, 6),  # the gradient of x
        ((96, 8, 8, 4), (3, 3, 4, 4), 1, 1, 9),  # all three in three parts
    ],
)
def test_what_is_left_to_xlas_convolution(shape, kernel, groups, dilation, convolutions):
    """Of the result and both gradients; never one of many groups, which XLA makes slow code of."""
    with lowering_for("cpu"):
        function = functools.partial(
            result_and_gradients,
            strides=(1, 1),
            padding="SAME",
            groups=groups,
            dilation=(dilation, dilation),
        )
        lowered = jax.jit(function).lower(jnp.zeros(shape), jnp.zeros(kernel)).as_text()
    assert lowered.count("stablehlo.convolution") == convolutions
    assert "feature_group_count = 16" not in lowered and "batch_group_count = 16" not in lowered


@pytest.mark.parametrize("groups", [1, 4])
def test_second_derivatives_in_both_modes(groups):
    x, kernel = draw(2, 5, 5, 4), draw(3, 3, 4 // groups, 4, seed=1)
    found = []
    for platform in ("cpu", "tpu"):

        def loss(x, kernel):
            y = convolution(x, kernel, (2, 2), "SAME", feature_group_count=groups, **DIMENSIONS)
            return jnp.sin(y).sum()

        with lowering_for(platform):
            gradient = jax.grad(loss, (0, 1))

            def derivatives(x, kernel, gradient=gradient):
                forward = jax.jvp(gradient, (x, kernel), (0.3 * x, 0.2 * kernel))[1]
                squares = jax.grad(lambda *a: sum((d**2).sum() for d in gradient(*a)), (0, 1))
                each = jax.vmap(lambda kernel: gradient(x, kernel)[1])
                return *forward, *squares(x, kernel), each(jnp.stack([kernel, -kernel]))

            found.append(jax.jit(derivatives)(x, kernel))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.layers.image_conv import image_conv

DIMENSIONS = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


# The stems of ResNet, AlexNet and ViT; two of which not all pixels take part.
@pytest.mark.parametrize(
    ("size", "stride", "padding", "shape"),
    [
        (7, 2, (3, 3), (32, 30)),
        (11, 4, (2, 2), (63, 63)),
        (16, 16, (0, 0), (32, 48)),
        (4, 4, (0, 0), (18, 16)),
        (3, 2, (0, 1), (17, 16)),
    ],
)
def test_is_the_convolution(platform, size, stride, padding, shape):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *shape, 3)).astype(np.float32)
    kernel = random.normal(size=(size, size, 3, 8)).astype(np.float32)
    arguments = ((stride, stride), (padding, padding))

    def loss(convolve, x, kernel):
        y = convolve(x, kernel, *arguments, **DIMENSIONS)
        return (y * (jnp.arange(y.size) % 7).reshape(y.shape)).sum(), y

    ours, theirs = (
        jax.jit(jax.grad(partial(loss, f), (0, 1), has_aux=True))(x, kernel)
        for f in (image_conv, jax.lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)
    for one, other in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_on_a_gpu_channels_are_a_multiple_of_eight(platform):
    convolve = partial(image_conv, strides=(2, 2), padding=((3, 3), (3, 3)), **DIMENSIONS)
    shapes = (2, 32, 32, 3), (7, 7, 3, 64)
    text = str(jax.make_jaxpr(convolve)(*map(np.ones, shapes)))
    assert (",16] " in text) == (platform == "cuda")

from functools import partial

import jax
import numpy as np
import pytest

from imagenet_jax.models.image_conv import image_conv

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
    ours, theirs = (
        jax.vjp(lambda *a, f=f: f(*a, *arguments, **DIMENSIONS), x, kernel)
        for f in (image_conv, jax.lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-4)
    weight = random.normal(size=ours[0].shape).astype(np.float32)
    for one, other in zip(ours[1](weight), theirs[1](weight), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_on_a_gpu_channels_are_a_multiple_of_eight(platform):
    convolve = partial(image_conv, strides=(2, 2), padding=((3, 3), (3, 3)), **DIMENSIONS)
    shapes = (2, 32, 32, 3), (7, 7, 3, 64)
    text = str(jax.make_jaxpr(convolve)(*map(np.ones, shapes)))
    assert (",16] " in text) == (platform == "cuda")

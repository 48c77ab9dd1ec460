import jax
import numpy as np
import pytest

from imagenet_jax.models.layers.blur import blur


@pytest.mark.parametrize(("stride", "sides"), [(1, (7, 6)), (2, (7, 2))])
def test_blur_is_torchs_depthwise_convolution(stride, sides):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, *sides, 5)).astype(np.float32)
    line = torch.tensor([1.0, 2.0, 1.0])
    kernel = (torch.outer(line, line) / 16).expand(5, 1, 3, 3)
    options = {"stride": stride, "padding": 1, "groups": 5}
    expected = torch.nn.functional.conv2d(torch.tensor(x.transpose(0, 3, 1, 2)), kernel, **options)
    found = jax.jit(blur, static_argnums=1)(x, stride)
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), atol=1e-6)

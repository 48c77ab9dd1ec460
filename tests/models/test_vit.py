import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models import vit
from imagenet_jax.models.layers.attention import has_flash_attention


@pytest.mark.parametrize("platform", ["cuda"], indirect=True)
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_fused_attention_of_a_gpu_is_the_same(platform, pool, monkeypatch):
    """With XLA in cuDNN's place, which takes the same arguments and runs here."""
    model = vit.ViT(8, 48, 2, 3, 5, pool=pool)
    x = jax.random.normal(jax.random.key(0), (2, 16, 24, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(1), x, train=False))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype("f4"), shapes)

    def gradient():
        def loss_fn(variables):
            return jnp.square(model.apply(variables, x, train=True)).sum()

        return jax.jit(jax.grad(loss_fn))(variables)

    expected, asked = gradient(), []
    attend = jax.nn.dot_product_attention

    def instead(*args, implementation):
        asked.append(implementation)
        return attend(*args)

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    monkeypatch.setattr(vit, "has_flash_attention", lambda dtype, size: True)
    for one, other in zip(jax.tree.leaves(gradient()), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
    assert asked == ["cudnn"] * 2


class Gpu:
    """What is asked of a jax.Device."""

    def __init__(self, platform, version, capability):
        self.platform, self.compute_capability = platform, capability
        self.client = type("", (), {"platform_version": version})


@pytest.mark.parametrize(
    ("device", "dtype", "size", "has"),
    [
        (Gpu("gpu", "cuda 13000", "9.0"), "bfloat16", 64, True),
        (Gpu("gpu", "cuda 13000", "8.0"), "float16", 128, True),
        (Gpu("gpu", "cuda 13000", "9.0"), "float32", 64, False),
        (Gpu("gpu", "cuda 13000", "9.0"), "bfloat16", 60, False),
        (Gpu("gpu", "cuda 13000", "9.0"), "bfloat16", 136, False),
        (Gpu("gpu", "cuda 12090", "7.0"), "bfloat16", 64, False),
        (Gpu("gpu", "rocm 60300", "gfx90a"), "bfloat16", 64, False),
        (Gpu("tpu", "libtpu", ""), "bfloat16", 64, False),
    ],
)
def test_where_fused_attention_is_there(device, dtype, size, has, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert has_flash_attention(dtype, size) == has

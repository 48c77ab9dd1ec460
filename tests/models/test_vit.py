import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.models import create_model, vit
from imagenet_jax.models.layers import self_attention
from imagenet_jax.models.layers.attention import has_flash_attention
from imagenet_jax.weights.torch_layout import import_arrays


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
    monkeypatch.setattr(self_attention, "has_flash_attention", lambda dtype, size: True)
    for one, other in zip(jax.tree.leaves(gradient()), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
    assert asked == ["cudnn"] * 2


def test_big_visions_form_equals_timms():
    """Norm before pooling, fixed positions, a layer with tanh before the head."""
    torch = pytest.importorskip("torch")
    torchvision()  # timm imports it
    timm = pytest.importorskip("timm")
    options = {"global_pool": "avg", "class_token": False, "fc_norm": False, "num_classes": 24}
    reference = timm.models.VisionTransformer(
        *(48, 16), embed_dim=24, depth=2, num_heads=3, **options
    ).eval()
    head = torch.nn.Linear(24, 5)
    with torch.no_grad():
        for param in reference.parameters():
            param.add_(torch.randn_like(param) * 0.1)
        reference.pos_embed.copy_(torch.tensor(vit.sincos2d(3, 3, 24)))
    options = {"pool": "norm_avg", "pos_embed": "sincos2d", "representation_size": 24}
    model = vit.ViT(16, 24, 2, 3, 5, **options)
    x = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    arrays = {name: value.numpy() for name, value in reference.state_dict().items()}
    del arrays["pos_embed"]
    for part in ("weight", "bias"):
        arrays[f"pre_logits.{part}"] = arrays.pop(f"head.{part}")
        arrays[f"head.{part}"] = head.state_dict()[part].numpy()
    logits = model.apply(import_arrays(shapes, arrays), x, train=False)
    with torch.no_grad():
        expected = head(torch.tanh(reference(torch.tensor(x.transpose(0, 3, 1, 2))))).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_fixed_positions_are_sines_and_cosines_of_their_place():
    table = vit.sincos2d(3, 5, 16)
    assert table.shape == (1, 15, 16) and table.dtype == np.float32
    y, x = 2, 4
    rates = [1 / 10_000 ** (number / 3) for number in range(4)]
    expected = [f(at * rate) for at in (x, y) for f in (np.sin, np.cos) for rate in rates]
    np.testing.assert_allclose(table[0, 5 * y + x], expected, rtol=1e-6)


def test_a_class_token_has_no_fixed_position():
    model = vit.ViT(8, 16, 0, 2, 3, pos_embed="sincos2d")
    x = jnp.zeros((1, 16, 16, 3))
    variables = model.init(jax.random.key(0), x, train=False)
    assert "pos_embed" not in variables["params"] and "cls_token" in variables["params"]
    head = variables["params"]["head"]
    head["kernel"] = jnp.ones_like(head["kernel"])
    assert (model.apply(variables, x, train=False) == 0).all()  # of the token alone, which is zero


@pytest.mark.slow
def test_xaviers_initial_kernels():
    model = create_model("vit_ti16", num_classes=3, kernel_init="xavier")
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)["params"]
    block = params["blocks.5"]
    for layer, fans in (
        (block["attn"]["qkv"], 192 + 192),  # each of q, k and v is a matrix of its own
        (block["attn"]["proj"], 192 + 192),
        (block["mlp"]["fc1"], 192 + 768),
        (block["mlp"]["fc2"], 768 + 192),
    ):
        bound = (6 / fans) ** 0.5
        assert 0.99 * bound < np.abs(layer["kernel"]).max() <= bound
        assert np.std(layer["kernel"]) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert np.std(block["mlp"]["fc1"]["bias"]) == pytest.approx(1e-6, rel=0.2)


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

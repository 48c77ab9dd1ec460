import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import MODELS, create_model

# sum(p.numel() for p in model.parameters()) of torchvision's models, also in its model table.
TORCHVISION_PARAMS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}


def shapes(name, image_size=64, num_classes=1000, **options):
    """The variables of a model without computing them."""
    model = create_model(name, num_classes=num_classes, **options)
    image = jnp.zeros((1, image_size, image_size, 3))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))


@pytest.mark.parametrize(("name", "count"), TORCHVISION_PARAMS.items())
def test_parameter_count_is_torchvisions(name, count):
    variables = shapes(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(name):
    model = create_model(name, num_classes=10, stem="cifar", dtype=jnp.bfloat16)
    image = jnp.zeros((2, 16, 16, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    logits, captured = jax.eval_shape(
        lambda v: model.apply(v, image, train=False, capture_intermediates=True), variables
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    blocks = captured["intermediates"]["stage1_block1"]["__call__"]
    assert blocks[0].dtype == jnp.bfloat16


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 7), ("cifar", 28)])
def test_stem_sets_the_size_of_the_last_stage(stem, side):
    model = create_model("resnet18", num_classes=10, stem=stem)
    image = jnp.zeros((1, 224, 224, 3))

    def run():
        variables = model.init(jax.random.key(0), image, train=False)
        return model.apply(variables, image, train=False, capture_intermediates=True)

    _, captured = jax.eval_shape(run)
    last = captured["intermediates"]["stage4_block2"]["__call__"][0]
    assert last.shape == (1, side, side, 512)


def test_strided_convolution_is_padded_as_in_torch():
    """torch: out[0, 0] of a 3x3 stride 2 convolution, padding 1, sees rows -1, 0, 1."""
    model = create_model("resnet8", num_classes=2, width=1)
    image = np.zeros((1, 8, 8, 3), np.float32)
    variables = model.init(jax.random.key(0), image, train=False)
    kernel = variables["params"]["stage2_block1"]["conv1"]["kernel"]
    assert kernel.shape == (3, 3, 1, 2)
    _, captured = model.apply(variables, image, train=False, capture_intermediates=True)
    found = captured["intermediates"]["stage2_block1"]["conv1"]["__call__"][0]
    inside = captured["intermediates"]["stage1_block1"]["__call__"][0]
    padded = np.pad(np.asarray(inside), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [
            [
                np.einsum("hwi,hwio->o", padded[0, r : r + 3, c : c + 3], kernel)
                for c in range(0, 8, 2)
            ]
            for r in range(0, 8, 2)
        ]
    )
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_residual_branches_start_at_zero_if_asked():
    for zero, expected in ((True, 0.0), (False, 1.0)):
        model = create_model("resnet50", num_classes=2, width=4, zero_init_residual=zero)
        variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
        scale = variables["params"]["stage1_block1"]["norm3"]["scale"]
        np.testing.assert_array_equal(scale, expected)


def test_unknown_model_and_option_suggest_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        create_model("resnet5O", num_classes=10)
    with pytest.raises(ConfigError, match="did you mean 'zero_init_residual'"):
        create_model("resnet50", num_classes=10, zero_init=True)

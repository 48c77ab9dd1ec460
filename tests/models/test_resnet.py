import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models import create_model


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 7), ("cifar", 28)])
def test_stem_sets_the_size_of_the_last_stage(stem, side):
    model = create_model("resnet18", num_classes=10, stem=stem)
    image = jnp.zeros((1, 224, 224, 3))

    def run():
        variables = model.init(jax.random.key(0), image, train=False)
        return model.apply(variables, image, train=False, capture_intermediates=True)

    _, captured = jax.eval_shape(run)
    last = captured["intermediates"]["layer4.1"]["__call__"][0]
    assert last.shape == (1, side, side, 512)


def test_strided_convolution_is_padded_as_in_torch():
    """torch: out[0, 0] of a 3x3 stride 2 convolution, padding 1, sees rows -1, 0, 1."""
    model = create_model("resnet8", num_classes=2, width=1)
    image = np.zeros((1, 8, 8, 3), np.float32)
    variables = model.init(jax.random.key(0), image, train=False)
    kernel = variables["params"]["layer2.0"]["conv1"]["kernel"]
    assert kernel.shape == (3, 3, 1, 2)
    _, captured = model.apply(variables, image, train=False, capture_intermediates=True)
    found = captured["intermediates"]["layer2.0"]["conv1"]["__call__"][0]
    inside = captured["intermediates"]["layer1.0"]["__call__"][0]
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
    image = jnp.zeros((1, 32, 32, 3))
    for zero, expected in ((True, 0.0), (False, 1.0)):
        model = create_model("resnet50", num_classes=2, width=4, zero_init_residual=zero)

        def scale(model=model):
            params = model.init(jax.random.key(0), image, train=False)["params"]
            return params["layer1.0"]["bn3"]["scale"]

        np.testing.assert_array_equal(jax.jit(scale)(), expected)

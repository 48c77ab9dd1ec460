import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models import create_model, resnet
from imagenet_jax.models.layers.layers import Layers


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


@pytest.mark.parametrize("everywhere", [False, True])
def test_stochastic_depth_drops_branches_more_often_the_deeper_they_are(everywhere):
    """The first of two is never dropped, the last always but for one in a hundred; or both."""
    options = {"se_ratio": 0.25, "zero_init_residual": False}
    if everywhere:
        options["layers"] = Layers(uniform_drop_path=0.99)
    else:
        options["drop_path"] = 0.99
    model = resnet.ResNet((1, 1), resnet.BasicBlock, 3, width=8, stem="cifar", **options)
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()

    def loss_fn(params):
        rngs, given = {"dropout": jax.random.key(2)}, variables | {"params": params}
        logits, _ = model.apply(given, x, train=True, rngs=rngs, mutable=["batch_stats"])
        return jnp.square(logits).sum()

    gradient = jax.jit(jax.grad(loss_fn))(variables["params"])
    first, last = (gradient[name]["conv2"]["kernel"] for name in ("layer1.0", "layer2.0"))
    assert np.abs(last).max() == 0
    assert (np.abs(first).max() == 0) == everywhere


def test_dropout_is_of_the_heads_inputs_in_training_only():
    model = resnet.ResNet((1,), resnet.BasicBlock, 2, width=64, stem="cifar", dropout=0.75)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()
    found = {}
    for train in (False, True):

        @jax.jit
        @jax.grad
        def gradient(head, train=train):
            given = variables | {"params": variables["params"] | {"fc": head}}
            rngs = {"dropout": jax.random.key(2)}
            logits, _ = model.apply(given, x, train, rngs=rngs, mutable=["batch_stats"])
            return logits.sum()

        found[train] = gradient(variables["params"]["fc"])["kernel"][:, 0]
    assert (found[False] > 0).all()
    assert 0.6 < (found[True] == 0).mean() < 0.9

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.models.resnet import Bottleneck, ResNet


def run(x, *, train=True, variables=None, **options):
    """Output and updated running statistics."""
    norm = BatchNorm(**options)
    variables = variables or norm.init(jax.random.key(0), x, train=False)
    out, updated = norm.apply(variables, x, train=train, mutable=["batch_stats"])
    return np.asarray(out), updated["batch_stats"]


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(3, 2, (8, 4, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("group_size", [0, 2, 4, 8])
def test_groups_are_normalised_by_their_own_statistics(images, group_size):
    out, stats = run(images, group_size=group_size, momentum=0.9)
    groups = images.reshape(-1, (group_size or 8) * 16, 5).astype(np.float64)
    mean, var = groups.mean(1, keepdims=True), groups.var(1, keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(images.shape)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    # torch: running = 0.9 * running + 0.1 * batch, with the unbiased variance.
    np.testing.assert_allclose(stats["mean"], 0.1 * mean.mean((0, 1)), rtol=1e-5)
    unbiased = groups.var(1, ddof=1).mean(0)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_evaluation_uses_and_keeps_the_running_statistics(images):
    mean, var = np.arange(5.0, dtype=np.float32), np.arange(1.0, 6.0, dtype=np.float32)
    scale, bias = np.full(5, 2.0, np.float32), np.full(5, -1.0, np.float32)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    out, stats = run(images, train=False, variables=variables)
    np.testing.assert_allclose(out, (images - mean) / np.sqrt(var + 1e-5) * 2 - 1, atol=1e-5)
    np.testing.assert_array_equal(stats["mean"], mean)


def test_statistics_of_bfloat16_are_taken_in_float32(images):
    large = jnp.asarray(images + 100, jnp.bfloat16)
    out, stats = run(large, dtype=jnp.bfloat16)
    assert out.dtype == jnp.bfloat16
    exact = np.asarray(large, np.float64).reshape(-1, 5)
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean(0), rtol=1e-5)


def test_images_that_do_not_divide_into_groups_are_refused(images):
    with pytest.raises(ValueError, match="8 images do not divide into groups of 3"):
        run(images, group_size=3)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            (1, 1, 1, 5),
            {},
            "from 1 image of 1 x 1 pixels: .* Raise batch_size / accumulate or data",
        ),
        ((8, 1, 1, 5), {"group_size": 1}, "from 1 image of 1 x 1 .* Raise model.bn_group_size or"),
        ((1, 5), {}, "from 1 image: its variance is 0"),
    ],
)
def test_statistics_of_one_value_are_refused_in_training(shape, options, message):
    """As torch does; by the running ones, or of two values, it is normalised."""
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with pytest.raises(ConfigError, match=message):
        run(x, **options)
    assert np.isfinite(run(x, train=False, **options)[0]).all()
    assert np.isfinite(run(x, frozen=True, **options)[0]).all()
    pair = np.stack([x[0], x[0] + 2])
    out, stats = run(pair, group_size=2)
    np.testing.assert_allclose(out, np.sign(pair - pair.mean(0)), atol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * 2, rtol=1e-5)  # unbiased: 2, not 1


def test_a_network_names_the_norm_that_has_one_value():
    """ResNet-18 ends with 1 x 1 at 32 pixels."""
    model = create_model("resnet18", num_classes=3, bn_group_size=1)

    def step(variables, image):
        return model.apply(variables, image, train=True, mutable=["batch_stats"])

    with pytest.raises(
        ConfigError, match=r"BatchNorm layer4\.0/bn1: in training each channel has 1 "
    ):
        jax.eval_shape(step, variable_shapes(model, 32), jnp.ones((4, 32, 32, 3)))


@pytest.mark.parametrize("with_kernel", [False, True])
def test_more_values_than_an_int32_counts(with_kernel):
    """As `study --largest_batch` tries for described devices."""
    x = jax.ShapeDtypeStruct((200_000, 112, 112, 4), jnp.bfloat16)
    kernel = jnp.ones((4, 4)) if with_kernel else None
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 2, 4)), False)

    def apply(x):
        _, updated = norm.apply(variables, x, True, kernel=kernel, mutable=["batch_stats"])
        return updated["batch_stats"]["mean"]

    assert jax.eval_shape(apply, x).shape == (4,)


def test_a_frozen_norm_is_torchvisions(images):
    torch = pytest.importorskip("torch")
    theirs = torchvision().ops.FrozenBatchNorm2d(5)
    rng = np.random.default_rng(1)
    arrays = {name: rng.uniform(0.5, 1.5, 5).astype(np.float32) for name in theirs.state_dict()}
    theirs.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    params = {"scale": arrays["weight"], "bias": arrays["bias"]}
    stats = {"mean": arrays["running_mean"], "var": arrays["running_var"]}
    norm = BatchNorm(frozen=True, group_size=3)  # of which 8 images are no multiple

    def loss(params, x):
        variables = {"params": params, "batch_stats": stats}
        y, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sin(y).sum(), (y, updated["batch_stats"])

    gradients, (found, updated) = jax.grad(loss, (0, 1), has_aux=True)(params, images)
    x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    y = theirs(x)
    y.sin().sum().backward()
    np.testing.assert_allclose(found, y.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(gradients[1], x.grad.numpy().transpose(0, 2, 3, 1), atol=1e-5)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients[0]))
    jax.tree.map(np.testing.assert_array_equal, updated, stats)


@pytest.mark.parametrize(
    "platform",
    ["cpu", pytest.param("tpu", marks=(pytest.mark.slow, pytest.mark.exhaustive))],
    indirect=True,
)
def test_frozen_norms_of_a_network_are_those_of_evaluation(platform):
    """Also where convolution and norm, or norm and pooling, are computed together."""
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)

    def make(**options):
        return ResNet((1, 1), Bottleneck, 3, width=64, layers=Layers(**options))

    variables = random_variables(make(), 32)

    def loss(params, model, train):
        given = {**variables, "params": params}
        logits, updated = model.apply(given, x, train=train, mutable=["batch_stats"])
        return jnp.square(logits).sum(), updated["batch_stats"]

    grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=(1, 2))
    (expected, _), gradient = grad(variables["params"], make(), False)
    for fused, remat in ((False, True), (True, False)):
        frozen = make(fused_norm=fused, remat=remat, frozen_norm=True)
        (found, stats), frozen_gradient = grad(variables["params"], frozen, True)
        assert found == pytest.approx(expected, rel=1e-5)
        jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
        for path, leaf in jax.tree_util.tree_leaves_with_path(frozen_gradient):
            other = functools.reduce(lambda tree, key: tree[key.key], path, gradient)
            of_norm = any("bn" in key.key or key.key == "downsample.1" for key in path)
            other = np.zeros_like(other) if of_norm else other
            np.testing.assert_allclose(leaf, other, atol=1e-4 * np.abs(other).max())


def random_variables(model, size):
    """Scales of both signs, variances of about one."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        array = rng.normal(0, 0.3, leaf.shape).astype(np.float32)
        return 1 + np.abs(array) if path[-1].key == "var" else array

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model, size))

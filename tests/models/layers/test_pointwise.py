"""The layers that save passes over memory compute what convolution, norm and pooling do."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models import create_model
from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.models.layers.platforms import PLAIN, lowering_for
from imagenet_jax.models.layers.pointwise import (
    Product,
    add,
    joined_products,
    moments,
    product_statistics,
    products,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def train_pass(model, variables, x):
    """Loss, and gradients and statistics."""

    def loss_fn(params):
        variables_now = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, updated = model.apply(variables_now, x, train=True, mutable=["batch_stats"])
        return jnp.square(logits).sum(), updated

    trained = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(variables["params"])
    return *trained, jax.jit(partial(model.apply, train=False))(variables, x)


@functools.cache
def plain_pass(group_size):
    """A model in float64 with fused norms and without, inputs, and what the latter makes of it."""
    options = {"num_classes": 3, "dtype": jnp.float64, "width": 32, "stage_sizes": (1, 1)}
    make = partial(create_model, "resnet50", **options, bn_group_size=group_size)
    plain, rng = make(fused_norm=False), np.random.default_rng(0)
    x = rng.normal(size=(4, 40, 32, 3))
    shapes = jax.eval_shape(partial(plain.init, train=False), jax.random.key(1), x)
    variables = jax.tree_util.tree_map_with_path(partial(away_from_zero, rng), shapes)
    scale = variables["params"]["bn1"]["scale"]
    variables["params"]["bn1"]["scale"] = scale * np.resize([1.0, -1.0, 0.1], 32)
    with lowering_for(PLAIN):
        return (make(fused_norm=True), plain), variables, x, train_pass(plain, variables, x)


def away_from_zero(rng, path, leaf):
    """Kernels as large as they are at the start; norms with scales of about one."""
    if leaf.ndim > 1:
        return rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
    return (path[-1].key in ("scale", "var")) + rng.normal(0, 0.1, leaf.shape)


@pytest.mark.xdist_group("fused_norm")
@pytest.mark.parametrize("group_size", [0, 4])
def test_fused_norm_changes_nothing_but_rounding(platform, group_size):
    """Logits, gradients and statistics in float64, with scales of both signs."""
    models, variables, x, plain = plain_pass(group_size)
    (loss, stats), gradient, logits = plain
    (fused_loss, fused_stats), fused_gradient, fused_logits = train_pass(models[0], variables, x)
    assert fused_loss == pytest.approx(float(loss), rel=1e-9)
    for ours, expected in zip(
        jax.tree.leaves((fused_stats, fused_gradient)),
        jax.tree.leaves((stats, gradient)),
        strict=True,
    ):
        # Running statistics are stored in float32.
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(fused_logits, logits, rtol=1e-9)
    # In the form of one platform, evaluation is the same to the bit.
    np.testing.assert_array_equal(*(m.apply(variables, x, train=False) for m in models))


@pytest.mark.parametrize("local", [True, False])
def test_moments_of_the_input_give_the_statistics_of_the_product(platform, local):
    random = np.random.default_rng(0)
    x = random.gamma(0.3, size=(2, 3, 4, 5, 6))
    kernel = random.normal(size=(6, 7))
    sums = moments(jnp.asarray(x))
    mean, variance = product_statistics(*sums, jnp.asarray(kernel), 60, local)
    np.testing.assert_allclose(mean, (x @ kernel).mean((1, 2, 3)))
    np.testing.assert_allclose(variance, (x @ kernel).var((1, 2, 3)))


@pytest.mark.parametrize("platform", ["cuda"], indirect=True)
@pytest.mark.parametrize("group_size", [0, 2])
def test_sums_over_all_devices_are_not_joined_with_others(platform, group_size):
    """XLA's partitioner would move the parts of a joined array between the devices."""
    norm = BatchNorm(group_size)
    x, kernel = jnp.ones((4, 2, 2, 3)), jnp.ones((3, 5))
    variables = norm.init(jax.random.key(0), x, False, kernel=kernel)

    def loss(kernel):
        out, _ = norm.apply(variables, x, True, kernel=kernel, mutable=["batch_stats"])
        return add(out).sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(kernel))
    assert (" concatenate[" in program, " pad[" in program) == (bool(group_size),) * 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_statistics_are_as_good_as_those_of_the_product(dtype):
    """On what a ReLU lets through, with a mean of many deviations of the product."""
    random = np.random.default_rng(0)
    x = np.maximum(random.normal(2, 1, (1, 8, 14, 14, 64)), 0).astype(np.float32)
    x = np.asarray(jnp.asarray(x, dtype).astype(jnp.float32))
    kernel = random.normal(size=(64, 256)).astype(np.float32) / 8
    _, variance = product_statistics(
        *moments(jnp.asarray(x, dtype)), jnp.asarray(kernel), x[..., 0].size
    )
    exact = (x.astype(np.float64) @ kernel.astype(np.float64)).var((1, 2, 3))
    np.testing.assert_allclose(variance, exact, rtol=1e-4)


@pytest.mark.parametrize("function", [products, joined_products])
def test_products(function):
    random = np.random.default_rng(0)
    xs = [random.normal(size=(2, 3, 4, 5, width)) for width in (6, 8, 1)]
    y = random.normal(size=(2, 3, 4, 5, 7))
    for x, product in zip(xs, function([*map(jnp.asarray, xs)], jnp.asarray(y)), strict=True):
        np.testing.assert_allclose(product, np.einsum("gnhwc,gnhwd->gcd", x, y))


def test_add():
    random = np.random.default_rng(0)
    array, shift = random.normal(size=(6, 4, 5, 7)), random.normal(size=(2, 7))
    terms = [
        [random.normal(size=size) for size in ((2, 3, 4, 5, width), (width, 7), (2, 7))]
        for width in (6, 8)
    ]
    total = array + 2 * np.repeat(shift, 3, 0)[:, None, None]
    for x, kernel, scale in terms:
        total += (x @ kernel * scale[:, None, None, None]).reshape(6, 4, 5, 7)
    np.testing.assert_allclose(add(*(Product(*term, shift) for term in terms), array), total)
    np.testing.assert_array_equal(add(array, array), 2 * array)


def test_the_scale_within_the_kernel_loses_nothing_in_bfloat16():
    """Against the scale after the product, by the distance from the exact result."""
    random = np.random.default_rng(0)
    x = jnp.asarray(np.maximum(random.normal(0.3, 1, (1, 8, 14, 14, 64)), 0), jnp.bfloat16)
    kernel = jnp.asarray(random.normal(size=(64, 256)) / 8, jnp.float32)
    scale, shift = (jnp.asarray(random.normal(size=(1, 256)), jnp.float32) for _ in range(2))
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    exact = exact * np.asarray(scale) + np.asarray(shift)
    after = (x @ kernel.astype(x.dtype)).astype(jnp.float32)
    after = after * scale[None, None, None] + shift[None, None, None]
    ours, plain = (
        np.sqrt(np.square(np.asarray(out, np.float64).reshape(exact.shape) - exact).mean())
        for out in (add(Product(x, kernel, scale, shift)), after.astype(x.dtype))
    )
    assert ours <= 1.1 * plain

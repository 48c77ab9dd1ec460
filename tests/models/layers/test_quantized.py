"""Rounding to int8 and back against PyTorch's own, and where it is done."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.quantized import (
    NAME,
    round_kernel,
    round_to_range,
    rounded_layers,
    told_of_rounded,
)
from imagenet_jax.models.table import create_model
from imagenet_jax.training.state import init_variables

torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.3, 2.7), (-3.0, 0.0)])
def test_activations_are_rounded_and_their_gradients_cut_off_as_in_torch(low, high):
    x = RANDOM.normal(0, 3, (5, 7, 4)).astype(np.float32)
    weight = RANDOM.normal(size=x.shape).astype(np.float32)
    scale = np.float32(high - low) / np.float32(255)
    zero = round(-low / float(scale))
    theirs = torch.tensor(x, requires_grad=True)
    rounded = torch.fake_quantize_per_tensor_affine(theirs, float(scale), zero, 0, 255)
    (rounded * torch.tensor(weight)).sum().backward()
    ends = jnp.float32(low), jnp.float32(high)
    ours = round_to_range(jnp.asarray(x), *ends)
    gradient = jax.grad(lambda x: (round_to_range(x, *ends) * weight).sum())(jnp.asarray(x))
    np.testing.assert_allclose(ours, rounded.detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(gradient, theirs.grad.numpy())
    assert len(np.unique(ours)) <= 256 and (np.asarray(gradient) == 0).any()
    assert round_to_range(jnp.zeros(1), *ends)[0] == 0


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (16, 5), (3, 3, 1, 6)])
def test_kernels_are_rounded_for_each_output_as_in_torch(shape):
    kernel = RANDOM.normal(size=shape).astype(np.float32)
    kernel[..., 1] = 0
    largest = np.abs(kernel).max(tuple(range(len(shape) - 1)))
    scale = torch.tensor(np.where(largest > 0, largest / np.float32(127), np.float32(1)))
    zeros = torch.zeros(shape[-1], dtype=torch.int32)
    how = scale, zeros, len(shape) - 1, -127, 127
    rounded = torch.fake_quantize_per_channel_affine(torch.tensor(kernel), *how)
    np.testing.assert_allclose(round_kernel(jnp.asarray(kernel)), rounded.numpy(), atol=1e-6)
    gradient = jax.grad(lambda k: (round_kernel(k) * kernel).sum())(jnp.asarray(kernel))
    np.testing.assert_array_equal(gradient, kernel)


class One(nn.Module):
    """A convolution and a linear layer."""

    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        x = self.layers.conv(6, 3, name="conv")(x)
        return self.layers.head(3, name="fc")(x.mean((1, 2)))


def test_ranges_move_as_those_of_torch_and_are_used_in_evaluation():
    """Against its FakeQuantize with its observer of moving extremes, of one image at a time; of
    several the mean counts."""
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

    module = One(Layers(quantize="int8", quantize_skip=("^fc/",)))
    images = [RANDOM.normal(k, 2, (1, 5, 5, 2)).astype(np.float32) for k in range(3)]
    variables = module.init(jax.random.key(0), images[0], train=False)
    assert rounded_layers(variables["batch_stats"]) == ["conv"]
    how = {"quant_min": 0, "quant_max": 255, "averaging_constant": 0.1}
    observed = FakeQuantize(MovingAverageMinMaxObserver, dtype=torch.quint8, **how)
    kernel = np.asarray(round_kernel(variables["params"]["conv"]["kernel"])).transpose(3, 2, 0, 1)
    fc = variables["params"]["fc"]["kernel"]

    def expected(x):
        x = observed(torch.tensor(x.transpose(0, 3, 1, 2)))
        y = torch.nn.functional.conv2d(x, torch.tensor(kernel), padding=1)
        return y.mean((2, 3)).numpy() @ np.asarray(fc)

    for x in images:
        theirs = expected(x)
        ours, changed = module.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = {**variables, **changed}
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    observed.disable_observer()
    x = images[0] * 3
    np.testing.assert_allclose(module.apply(variables, x, train=False), expected(x), atol=1e-5)
    found = variables["batch_stats"]["conv"][NAME]
    ends = observed.activation_post_process
    np.testing.assert_allclose(found["high"], ends.max_val.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["low"], ends.min_val.numpy(), rtol=1e-6)
    fresh = module.init(jax.random.key(0), images[0], train=False)
    several = np.concatenate(images)
    _, changed = module.apply(fresh, several, train=True, mutable=["batch_stats"])
    high = several.max((1, 2, 3)).mean()
    np.testing.assert_allclose(changed["batch_stats"]["conv"][NAME]["high"], high, rtol=1e-6)


class Twice(nn.Module):
    """A layer that is given two maps, as heads of detectors are."""

    layers: Layers

    @nn.compact
    def __call__(self, maps, train):
        conv = self.layers.conv(6, 3, name="conv")
        return [conv(one) for one in maps]


def test_a_layer_that_is_called_twice_has_the_range_of_both():
    """Whatever their order; and moves once a step."""
    module = Twice(Layers(quantize="int8"))
    maps = [RANDOM.normal(k, 1, (2, 5, 5, 2)).astype(np.float32) for k in (3, -2, 0)]
    variables = module.init(jax.random.key(0), maps, train=False)
    ends = []
    for order in (maps, maps[::-1]):
        train = jax.jit(
            lambda given, order: module.apply(given, order, True, mutable="batch_stats")
        )
        stats = train(variables, order)[1]
        ends.append(stats["batch_stats"]["conv"][NAME])
        both = {"params": variables["params"], **stats}
        twice = [one * 2 for one in order]
        ends.append(train(both, twice)[1]["batch_stats"]["conv"][NAME])
    most = np.max([one.max((1, 2, 3)).mean() for one in maps])
    least = np.min([one.min((1, 2, 3)).mean() for one in maps])
    for found, factor in zip(ends, (1, 1.1, 1, 1.1), strict=True):
        np.testing.assert_allclose(found["high"], most * factor, rtol=1e-6)
        np.testing.assert_allclose(found["low"], least * factor, rtol=1e-6)


def test_without_a_range_nothing_is_rounded():
    x = RANDOM.normal(size=(2, 5, 5, 2)).astype(np.float32)
    module, plain = One(Layers(quantize="int8")), One(Layers())
    variables = module.init(jax.random.key(0), x, train=False)
    other = plain.init(jax.random.key(0), x, train=False)
    ours = module.apply(variables, x, train=False)
    np.testing.assert_array_equal(ours, plain.apply(other, x, train=False))
    assert "batch_stats" not in other


FAMILIES = {facts.family: name for name, facts in reversed(FACTS.items())}
QUICK = ("vit", "lenet")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in QUICK else pytest.mark.slow)
        for family in FAMILIES
    ],
)
def test_every_layer_of_each_family_is_rounded(family):
    name = FAMILIES[family]
    size = FACTS[name].image_size
    options = {"depth": 1} if family == "vit" else {}
    model = create_model(name, num_classes=10, quantize="int8", **options)
    shapes = jax.eval_shape(
        lambda key: init_variables(key, model=model, image_size=size), jax.random.key(0)
    )
    assert told_of_rounded(shapes).endswith("as they are: none")
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def apply(image):
        keys, seen = {"dropout": jax.random.key(1)}, ["ranges", "batch_stats"]
        return model.apply(variables, image, train=True, mutable=seen, rngs=keys)[1]

    seen = jax.eval_shape(apply, image)["ranges"]
    assert sorted(rounded_layers(seen)) == sorted(rounded_layers(shapes["batch_stats"]))

"""Initial values that recipes ask for, by their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_table import FAMILIES

from imagenet_jax.models import create_model, resnet
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.training.initial import initial_values, trace
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.head import head_path


def start(init):
    """What a run starts with."""
    key = jax.random.key(0)
    return initial_values(trace(init, key), key)


def drawn(**options):
    """Parameters of a small ResNet-RS, by path; `options` are its own or those of its layers."""
    own = {name: options.pop(name) for name in ("zero_init_residual",) if name in options}
    model = resnet.ResNet(
        (1, 1),
        resnet.Bottleneck,
        100,
        **{"stem": "deep_conv", "shortcut": "avg", "se_ratio": 0.25, "groups": 4} | own,
        layers=Layers(**options),
    )
    image = jnp.zeros((1, 32, 32, 3))
    params = start(lambda key: model.init(key, image, train=False)["params"])
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def kernels(params):
    """Those of convolutions that have enough numbers to tell a distribution by."""
    found = {name: x for name, x in params.items() if name.endswith("kernel") and x.ndim == 4}
    return {name: x for name, x in found.items() if x.size > 4000}


def fans(kernel):
    """Torch's fan-in and fan-out; the latter takes no notice of groups."""
    rows, columns, inputs, outputs = kernel.shape
    return rows * columns * inputs, rows * columns * outputs


@pytest.mark.parametrize(
    ("conv_init", "variance"),
    [
        ("", lambda fan_in, fan_out: 2 / fan_out),
        ("fan_in", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun", lambda fan_in, fan_out: 1 / fan_in),
        ("xavier", lambda fan_in, fan_out: 1 / fan_in),
        ("normal", lambda fan_in, fan_out: 1e-4),
    ],
)
def test_kernels_of_convolutions_have_the_variance_asked_for(conv_init, variance):
    params = drawn(conv_init=conv_init)
    assert len(kernels(params)) >= 9
    for name, kernel in kernels(params).items():
        expected = variance(*fans(kernel)) ** 0.5
        assert kernel.std() == pytest.approx(expected, rel=0.05), name
        assert abs(kernel.mean()) < 0.1 * expected
        # Caffe's is uniform, no number is beyond sqrt(3) deviations.
        assert (np.abs(kernel).max() < 1.733 * expected) == (conv_init == "xavier"), name
    assert params["fc/kernel"].std() == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("zero", [True, False])
def test_scales_of_norms_are_uniform_but_for_those_that_start_at_zero(zero):
    params = drawn(bn_init="uniform", zero_init_residual=zero)
    scales = {name: x for name, x in params.items() if name.endswith("scale")}
    last = [name for name in scales if "/bn3/" in name]
    assert len(last) == 2
    for name in last if zero else ():
        assert not scales.pop(name).any()
    numbers = np.concatenate(list(scales.values()))
    assert numbers.min() >= 0 and numbers.max() < 1 and numbers.size > 1000
    np.testing.assert_allclose(np.histogram(numbers, 4, (0, 1))[0] / numbers.size, 0.25, atol=0.06)
    plain = drawn(zero_init_residual=False)
    assert all((x == 1).all() for name, x in plain.items() if name.endswith("scale"))


def head_of(name, **options):
    """Initial kernel and bias of the logits of a model of the table."""
    model = create_model(name, num_classes=300, **options)
    image = jnp.zeros((1, FAMILIES[name], FAMILIES[name], 3))
    (path,) = head_path(model, FAMILIES[name])
    return start(lambda key: model.init(key, image, train=False)["params"][path])


# Families whose heads are made in another way, and what makes them small.
SLOW = ("nfnet_f0", "swin_t", "mobilenet_v3_small")
HEADS = {"lenet": {}, "bit_r50x1": {"stage_sizes": ()}, "squeezenet1_1": {"squeezed": (1,)}}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow, *[pytest.mark.exhaustive] * (name not in SLOW)]
            if name not in HEADS
            else [],
        )
        for name in FAMILIES
    ],
)
def test_the_head_starts_as_asked_in_every_family(name):
    for std in (0.1, 0.0):
        none = ("airbench94", "inception_resnet_v1", "mobilefacenet")
        bias = {} if name in none else {"head_bias": -6.9}
        head = head_of(name, **HEADS.get(name, {}), head_std=std, **bias)
        assert head["kernel"].std() == pytest.approx(std, rel=0.05)
        np.testing.assert_allclose(head.get("bias", []), *bias.values() or [0])


def test_a_new_head_is_drawn_where_a_deviation_is_given():
    """As ConvNeXt's fine-tuning has it; else it starts at zero."""
    old = create_model("resnet8", num_classes=4)
    image = jnp.zeros((1, 8, 8, 3))
    variables = start(lambda key: old.init(key, image, train=False))
    for std, absent in ((None, False), (0.0, False), (2e-5, True)):
        new = create_model("resnet8", num_classes=5, head_std=std)
        head = adapt(variables, new, 8, new_head=True)["params"]["fc"]
        assert ("kernel" not in head) == absent and not head["bias"].any()
        assert absent or not head["kernel"].any()

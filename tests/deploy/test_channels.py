"""Networks with fewer channels: what is left computes what it did, and is an ordinary network."""

import dataclasses

import jax
import numpy as np
import pytest
from test_export import random_model, task_config

from imagenet_jax.config import from_json, to_json
from imagenet_jax.deploy.channels import without_channels
from imagenet_jax.devices.sharding import make_mesh
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.channels import channel_groups
from imagenet_jax.models.cost import count_macs, count_params
from imagenet_jax.tasks import make_task
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.program_checks import check_config


def model_of(name, **fields):
    fields = {"model.dtype": "float32", "data.image_size": 32, "batch_size": 256} | fields
    return random_model(task_config("classification", name, **fields))


def with_a_quarter_alive(trained, head):
    """Each layer but the head makes zeros in three channels of four, the same ones everywhere."""

    def quarter(path, leaf):
        if path[0].key == "params" and path[1].key != head:
            leaf[..., np.arange(leaf.shape[-1]) % 4 > 0] = 0
        return leaf

    variables = jax.tree_util.tree_map_with_path(quarter, jax.tree.map(np.copy, trained.variables))
    return dataclasses.replace(trained, variables=variables)


def logits(trained, size):
    image = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    return np.asarray(
        jax.jit(trained.model.apply, static_argnums=2)(trained.variables, image, False)
    )


HEADS = {"resnet50": "fc", "resnetrs50": "fc", "vgg11": "classifier.6", "vgg11_bn": "classifier.6"}
HEADS |= dict.fromkeys(("mobilenet_v2", "efficientnet_b0", "efficientnet_lite0"), "classifier.1")
HEADS |= dict.fromkeys(("mobilenet_v3_small", "mobilenet_v3_large"), "classifier.3")
SLOW = pytest.mark.slow


@pytest.mark.parametrize("share", [0.5, pytest.param(0.3, marks=SLOW)])
@pytest.mark.parametrize("name", ["resnet8", *(pytest.param(name, marks=SLOW) for name in HEADS)])
def test_channels_that_say_nothing_are_removed_and_nothing_changes(name, share):
    fields = {"model.width": 16} if name == "resnet8" else {}
    whole = with_a_quarter_alive(model_of(name, **fields), HEADS.get(name, "fc"))
    smaller = without_channels(whole, share)
    before, after = logits(whole, 32), logits(smaller, 32)
    np.testing.assert_allclose(after, before, atol=2e-5 * np.abs(before).max())
    less = 1 / (1 - share) ** 2
    ratio = count_macs(whole.model, 32) / count_macs(smaller.model, 32)
    assert 0.85 * less < ratio < 1.1 * less
    ratio = count_params(whole.variables) / count_params(smaller.variables)
    assert 0.85 * less < ratio < 1.1 * less


def test_what_is_left_is_described_by_its_config():
    """Read back from it, the network is the same; it can lose channels again."""
    smaller = without_channels(model_of("resnet8", **{"model.width": 16}), 0.5)
    config = from_json(to_json(smaller.config))
    assert set(config.model.channels) == {
        *("conv1=8", "layer1.0/conv1=8", "layer1.0/conv2=8", "layer2.0/conv1=16"),
        *("layer2.0/conv2=16", "layer2.0/downsample.0=16", "layer3.0/conv1=32"),
        *("layer3.0/conv2=32", "layer3.0/downsample.0=32"),
    }
    assert make_task(config).model() == smaller.model
    check_config(config, make_mesh())
    again = without_channels(smaller, 0.5)
    assert {entry for entry in again.config.model.channels if "layer3" in entry} == {
        *("layer3.0/conv1=16", "layer3.0/conv2=16", "layer3.0/downsample.0=16"),
    }


def test_channels_that_are_added_up_go_together():
    groups = {group.layers: group.size for group in channel_groups(model_of("resnet8").model, 32)}
    assert groups == {
        ("conv1", "layer1.0/conv2"): 16,
        ("layer1.0/conv1",): 16,
        ("layer2.0/conv1",): 32,
        ("layer2.0/conv2", "layer2.0/downsample.0"): 32,
        ("layer3.0/conv1",): 64,
        ("layer3.0/conv2", "layer3.0/downsample.0"): 64,
    }


@pytest.mark.parametrize("importance", ["l1", "l2", "scale"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_channels_that_matter_least_go(importance, scope):
    """One layer's channels in a known order; across layers, those of a layer that matters less."""
    whole = model_of("resnet8", **{"model.width": 16})
    block = whole.variables["params"]["layer1.0"]
    order = np.random.default_rng(0).permutation(16)
    block["conv1"]["kernel"][...] = 1.0
    if importance == "scale":
        block["bn1"]["scale"][...] = 0.01 * (1 + order)
    else:
        block["conv1"]["kernel"][...] = 0.1 * (1 + order) * np.sign(order - 7.5)
    smaller = without_channels(whole, 0.5, importance=importance, scope=scope)
    left = smaller.variables["params"]["layer1.0"]["conv1"]["kernel"].shape[-1]
    best = np.sort(np.argsort(-order)[:left])
    scales = smaller.variables["params"]["layer1.0"]["bn1"]["scale"]
    np.testing.assert_array_equal(scales, block["bn1"]["scale"][best])
    if scope == "layer":
        assert left == 8
    elif importance == "scale":  # which are a tenth of the others
        assert left == 2
    counts = [group.size for group in channel_groups(smaller.model, 32)]
    assert 0.4 * 224 < sum(counts) < 0.6 * 224


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("lenet", {}, "model lenet has no option 'channels'"),
        ("mobilenet_v3_small", {"importance": "scale"}, "of random has none behind it"),
        ("squeezenet1_0", {}, "has no option"),
    ],
)
def test_what_has_no_channels_to_remove_is_said(name, how, message):
    with pytest.raises(ConfigError, match=message):
        without_channels(model_of(name), 0.5, **how)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (("features.2/conv.1.0=7",), "channels: the layers do not fit together"),
        (("layer1.0/conv3=8",), "resnet8 has no layer 'layer1.0/conv3'; did you mean"),
        (("fc=8",), "= 'fc=8': that layer of resnet8 has 3 outputs, which follow"),
        (("layer1.0/conv1",), "'layer1.0/conv1',. is not possible; expected PATH=NUMBER each"),
        (("conv1=8", "conv1=9"), "no path twice"),
    ],
)
def test_channels_that_make_no_network_are_said(channels, message):
    mobile = channels[0].startswith("features")
    config = model_of("mobilenet_v2" if mobile else "resnet8").config
    config.model.channels = channels
    with pytest.raises(ConfigError, match=message):
        check_config(config, make_mesh())


def test_a_model_whose_blocks_do_not_take_channels_is_told():
    config = task_config("classification", "regnet_y_400mf")
    config.model.channels = ("stem.0=8",)
    with pytest.raises(ConfigError, match="has no option 'channels'"):
        check_fields(config)

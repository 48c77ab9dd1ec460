"""Networks without some of their residual blocks: what is left computes what it did."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector, create_model, create_segmenter, levels, vit
from imagenet_jax.models.backbone import ALL
from imagenet_jax.models.blocks import left_without, removable_blocks
from imagenet_jax.models.cost import count_macs, variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.resnet import BasicBlock, ResNet
from imagenet_jax.weights.adapt import adapt

SLOW = pytest.mark.slow
EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
# A size in pixels, and some blocks of each: of the others the shortcut is no identity.
FAMILIES = {
    "resnet8": (16, ["layer1.0"]),
    "resnet18": (32, ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
    "resnetrs50": (32, ["layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer2.3"]),
    "mobilenet_v2": (32, [f"features.{n}" for n in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
    "mobilenet_v3_small": (32, [f"features.{n}" for n in (3, 5, 6, 8, 10, 11)]),
    "efficientnet_lite0": (32, ["features.2.1", "features.3.1", "features.4.1", "features.4.2"]),
    "efficientnet_v2_s": (32, ["features.1.0", "features.1.1", "features.2.1"]),
    "regnet_y_400mf": (64, ["trunk_output.block2.block2-1", "trunk_output.block2.block2-2"]),
    "convnext_tiny": (32, [f"stages.0.blocks.{n}" for n in range(3)]),
    "convnextv2_tiny": (32, [f"stages.0.blocks.{n}" for n in range(3)]),
    "nfnet_f0": (64, ["stages.1.1", "stages.2.1"]),
    "bit_r50x1": (64, ["stages.0.blocks.1", "stages.0.blocks.2", "stages.1.blocks.1"]),
    "inception_resnet_v1": (96, [f"repeat_1.{n}" for n in range(5)]),
    "mobilefacenet": (32, [f"conv_3.model.{n}" for n in range(4)]),
    "vit_ti16": (32, [f"blocks.{n}" for n in range(12)]),
    "mixer_s32": (64, [f"blocks.{n}" for n in range(8)]),
    "swin_t": (64, ["features.1.0", "features.1.1", "features.3.0", "features.3.1"]),
}


def random_variables(model, size):
    random = np.random.default_rng(0)

    def draw(path, leaf):
        one = path[-1].key in ("scale", "var", "gain")
        spread = 0.1 if leaf.ndim < 2 else (leaf.size / leaf.shape[-1]) ** -0.5
        return (one + random.normal(0, spread, leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model, size))


def with_silent(variables, blocks):
    """All parameters of these blocks are zero, and so is what they add."""
    params = {
        name: jax.tree.map(np.zeros_like, tree) if name in blocks else tree
        for name, tree in variables["params"].items()
    }
    return {**variables, "params": params}


def marks(name):
    if name in ("resnet18", "resnetrs50", "efficientnet_v2_s", "convnextv2_tiny"):
        return EXHAUSTIVE  # others of the family stand for them
    return () if name == "resnet8" else SLOW


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in FAMILIES])
def test_blocks_that_add_nothing_are_left_out_and_nothing_changes(name):
    """Neither the logits nor any of the maps; and each block that could go is among them."""
    size, first = FAMILIES[name]
    whole = create_model(name, num_classes=3)
    blocks = removable_blocks(whole, FACTS[name].image_size)
    assert list(blocks[: len(first)]) == first
    less = create_model(name, num_classes=3, without_blocks=blocks)
    silent = with_silent(random_variables(whole, size), blocks)
    adapted = adapt(silent, less, size, new_head=False)
    left = {collection: tree for collection, tree in adapted.items() if tree}
    shapes = variable_shapes(less, size)
    assert jax.tree.map(np.shape, left) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    image = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    run = jax.jit(lambda model, v: model.apply(v, image, False, ALL), static_argnums=0)
    (before, maps), (after, others) = run(whole, silent), run(less, left)
    assert before.std() > 1e-3 and [*maps] == [*others]
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    for key, expected in maps.items():
        np.testing.assert_allclose(others[key], expected, atol=1e-5 * np.abs(expected).max())
    assert count_macs(less, size) < count_macs(whole, size)


def test_a_loop_leaves_out_what_a_row_does():
    gone, names = ("blocks.0", "blocks.2", "blocks.4"), ("blocks.0", "blocks.2", "blocks.3")
    layers = Layers(without_blocks=gone)
    row, loop = (vit.ViT(16, 32, 5, 2, 3, scan=scan, layers=layers) for scan in (False, True))
    image = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = random_variables(row, 32)
    run = jax.jit(
        lambda model, names: model.apply(variables, image, False, names), static_argnums=(0, 1)
    )
    expected, found = run(row, names), run(loop, names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    np.testing.assert_allclose(run(loop, ()), run(row, ()), atol=1e-4)
    assert [*run(loop, gone[:1])] == ["blocks.0"]


def test_a_stride_is_no_identity_where_a_map_has_one_pixel():
    layers = Layers(channels=("layer2.0/conv2=8", "layer2.0/downsample.0=8"))
    model = ResNet((1, 1), BasicBlock, 3, width=8, stem="cifar", layers=layers)
    assert "downsample.0" in variable_shapes(model, 1)["params"]["layer2.0"]
    assert removable_blocks(model, 1) == ("layer1.0",)


def test_rates_of_stochastic_depth_are_those_of_the_blocks_own_numbers():
    model = create_model("resnet18", num_classes=3, drop_path=0.7, without_blocks=("layer1.0",))
    rates = {}

    def note(run, args, kwargs, context):
        if isinstance(context.module, BasicBlock) and context.method_name == "__call__":
            rates[context.module.name] = context.module.drop_path
        return run(*args, **kwargs)

    with nn.intercept_methods(note):
        variable_shapes(model, 32)
    assert [*rates.values()] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


@SLOW
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_pyramid_stays(name):
    """Detectors and segmenters find the maps under their names, also behind blocks that went."""
    gone = removable_blocks(create_model(name, num_classes=2), 224)
    assert levels(create_model(name, num_classes=2, without_blocks=gone)) == levels(name)
    for make, head in ((create_detector, "retinanet"), (create_segmenter, "fcn")):
        found = []
        for without in ((), gone):
            model = make(name, head, num_classes=2, without_blocks=without)
            run = functools.partial(model.init_with_output, jax.random.key(0), train=False)
            outputs, variables = jax.eval_shape(
                run, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
            )
            found.append((outputs, left_without(variables, gone)))
        assert found[0] == found[1] == (outputs, variables)


@pytest.mark.parametrize(
    ("name", "block", "message"),
    [
        ("resnet18", "layer2.0", "no block 'layer2.0' whose output has the shape of its input"),
        ("resnet18", "layer1.2", "there are layer1.0, layer1.1, layer2.1, layer3.1, layer4.1$"),
        ("vgg11", "features.0", "vgg11 has no residual blocks that it could do without"),
        ("densenet121", "x", "models of the families resnet, mobilenet, efficientnet"),
        ("cspdarknet_nano", "m.0", "has no residual blocks"),
    ],
)
def test_blocks_that_cannot_go_are_said(name, block, message):
    with pytest.raises(ConfigError, match=message):
        create_model(name, num_classes=2, without_blocks=(block,))

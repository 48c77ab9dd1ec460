"""Maps by name: what exists, and that nothing behind the last one asked for does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from test_table import FAMILIES

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import Backbone, Level, create_model, levels, resnet, vit
from imagenet_jax.models.backbone import ALL
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.layers.layers import Layers

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
# Of timm, where it has another name.
TIMM = {
    **{"mobilenet_v2": "mobilenetv2_100", "mobilenet_v3_small": "mobilenetv3_small_100"},
    **{"mobilenet_v3_large": "mobilenetv3_large_100"},
    **{f"efficientnet_v2_{size}": f"tf_efficientnetv2_{size}" for size in "sml"},
    **{f"swin_{size[0]}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")},
}
# As torchvision has them; the paper's are a little different.
DIFFERENT = ("regnet_x_400mf", "regnet_y_800mf", "regnet_y_8gf")
ABSENT = (
    *("lenet", "airbench94", "airbench95", "resnet8", "resnet20", "alexnet", "googlenet"),
    *("squeezenet1_0", "squeezenet1_1", "cspdarknet_nano", "inception_resnet_v1", "mobilefacenet"),
)


def timm_name(name):
    library, _, other = FACTS[name].reference.partition(" ")
    if name.startswith("regnet"):  # regnet_y_1_6gf is regnety_016
        _, kind, *size = name.split("_")
        number, unit = "_".join(size)[:-2].replace("_", "."), name[-2:]
        number = f"{round(float(number) * (10 if unit == 'gf' else 0.01)):03}"
        return f"regnet{kind}_{number}" + "_tv" * (name in DIFFERENT)
    return other if library == "timm" else TIMM.get(name, name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAMILIES else EXHAUSTIVE)
        for name in FACTS
        if name not in ABSENT
    ],
)
def test_levels_are_timms(name):
    torch = pytest.importorskip("torch")
    torchvision()  # timm imports it
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        info = timm.create_model(timm_name(name), num_classes=1).feature_info
    info = info if isinstance(info, list) else info.info
    expected = [(each["reduction"], each["num_chs"]) for each in info]
    assert [(level.stride, level.channels) for level in levels(name)] == expected


def test_levels_that_timm_does_not_have():
    assert levels("googlenet") == (
        Level("conv1", 2, 64),
        Level("conv3", 4, 192),
        Level("inception3b", 8, 480),
        Level("inception4e", 16, 832),
        Level("inception5b", 32, 1024),
    )
    assert levels("alexnet")[-2:] == (Level("features.11", 16, 256), Level("features.12", 32, 256))
    assert levels("squeezenet1_1")[1:3] == (
        Level("features.4", 4, 128),
        Level("features.7", 8, 256),
    )
    assert [level.stride for level in levels("resnet8")] == [1, 2, 4]
    assert [level.name for level in levels("lenet")] == ["conv1", "conv2", "pool2"]
    assert levels(create_model("vit_ti16", num_classes=2))[11] == Level("blocks.11", 16, 192)
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        levels("resnet5O")


def features_shapes(model, names, size, train=False):
    """Shapes of the variables and of the maps."""
    image = jnp.zeros((1, size, size, 3))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.eval_shape(
        lambda: model.init_with_output(keys, image, train, names, method="features")
    )


CUT = ("resnet18", "vit_ti16")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in CUT else EXHAUSTIVE) for name in FAMILIES],
)
def test_what_lies_behind_the_last_map_has_no_parameters(name):
    model, size = create_model(name, num_classes=7), FAMILIES[name]
    whole = variable_shapes(model, size)["params"]
    *_, before, last = levels(name)
    maps, variables = features_shapes(model, [last.name], size, train=True)
    params = variables["params"]
    assert list(maps) == [last.name] and maps[last.name].shape[-1] == last.channels
    assert params and all(params[key] == whole[key] for key in params)
    absent = [key for key in whole if key not in params]
    assert absent and not any(key.startswith(("aux", "Aux")) for key in params)
    _, variables = features_shapes(model, [before.name], size)
    assert len(variables["params"]) <= len(params) < len(whole)
    assert "auxiliary" not in variables


class Detector(nn.Module):
    """A stand-in for one."""

    backbone: Backbone

    @nn.compact
    def __call__(self, image, train):
        maps = self.backbone.features(image, train, ("layer2", "layer1"))
        return [nn.Conv(4, (1, 1), name=name)(x) for name, x in maps.items()]


def test_a_submodule_has_the_classifiers_parameters():
    model = resnet.ResNet((1, 1, 1), resnet.BasicBlock, 3, width=8)
    detector, x = Detector(model), jnp.zeros((2, 32, 32, 3))

    def run():
        own = detector.init(jax.random.key(0), x, train=False)
        maps, updated = detector.apply(own, x, train=True, mutable=["batch_stats"])
        # The classifier's variables do as well: what is not asked for is not used.
        variables = model.init(jax.random.key(0), x, train=False)
        return own, maps, updated, variables, model.apply(variables, x, False, ("relu",))

    own, maps, updated, variables, stem = jax.eval_shape(run)
    body = own["params"]["backbone"]
    assert set(body) == {"conv1", "bn1", "layer1.0", "layer2.0"}
    assert body == {name: variables["params"][name] for name in body}
    assert [x.shape for x in maps] == [(2, 4, 4, 4), (2, 8, 8, 4)]  # as they were asked for
    assert set(updated["batch_stats"]["backbone"]) == {"bn1", "layer1.0", "layer2.0"}
    assert stem["relu"].shape == (2, 16, 16, 8)


def test_an_unknown_map_is_named_with_those_that_exist():
    model = resnet.ResNet((1, 1), resnet.BasicBlock, 3, width=8)
    message = "the maps of ResNet are relu, layer1, layer2; there is no 'layer3'; did you mean 'lay"
    with pytest.raises(ValueError, match=message):
        features_shapes(model, ["layer1", "layer3"], 32)
    with pytest.raises(ValueError, match="are relu, layer1, layer2; there is no 'fc'"):
        features_shapes(model, ["fc"], 32)


@pytest.mark.parametrize(
    ("train", "fused"),
    [
        (True, True),
        pytest.param(True, False, marks=EXHAUSTIVE),
        pytest.param(False, True, marks=EXHAUSTIVE),
    ],
)
def test_the_map_before_the_pooling_changes_nothing_else(train, fused):
    layers = Layers(fused_norm=fused)
    model = resnet.ResNet((1, 1), resnet.BasicBlock, 3, width=8, layers=layers)
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), x, train=False)
    variables["params"]["bn1"]["scale"] = jnp.linspace(-1, 1, 8)
    variables["params"]["fc"]["kernel"] += 1.0
    apply = jax.jit(model.apply, static_argnames=("train", "names", "mutable"))
    run = {"train": train, "mutable": ("batch_stats",)}
    expected, stats = apply(variables, x, **run)
    (logits, maps), found = apply(variables, x, **run, names=ALL)
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
    assert maps["relu"].shape == (4, 16, 16, 8)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_loop_gives_the_maps_of_a_row(pool):
    row, loop = (vit.ViT(8, 32, 4, 2, 3, pool=pool, scan=scan) for scan in (False, True))
    x = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)
    variables = row.init(jax.random.key(0), x, train=False)
    names = ("blocks.0", "blocks.2")
    expected = row.apply(variables, x, False, names, method="features")
    del variables["params"]["blocks.3"], variables["params"]["head"]
    found = loop.apply(variables, x, False, names, method="features")
    assert found["blocks.2"].shape == (2, 2, 3, 32)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_an_output_stride_that_a_model_cannot_have():
    assert [level.stride for level in levels(create_model("resnet18", num_classes=2))][-1] == 32
    dilated = create_model("wide_resnet50_2", num_classes=2, output_stride=16)
    assert levels(dilated)[-1] == Level("layer4", 16, 2048)
    with pytest.raises(ConfigError, match=r"output_stride = 4 is not possible.*8 or 16 or 32"):
        create_model("resnet50", num_classes=2, output_stride=4)
    with pytest.raises(ConfigError, match=r"output_stride = 8 is not possible.*expected 32$"):
        create_model("resnet8", num_classes=2, output_stride=8)
    with pytest.raises(ConfigError, match=r"output_stride = 8 is not possible.*16 or 32"):
        create_model("mobilenet_v3_large", num_classes=2, output_stride=8)
    with pytest.raises(ConfigError, match="model vgg16 has no option 'output_stride'"):
        create_model("vgg16", num_classes=2, output_stride=8)

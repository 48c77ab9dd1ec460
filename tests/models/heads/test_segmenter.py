"""Networks for segmentation: torchvision's numbers, and published counts."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_segmenter
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.models.heads.segmenter import _HEADS
from imagenet_jax.models.layers.dropout import Dropout
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Backbone, head, and parameters with the auxiliary head and 21 classes, of torchvision's pages.
PUBLISHED = {
    "fcn_resnet50": ("resnet50", "fcn", 35_322_218),
    "fcn_resnet101": ("resnet101", "fcn", 54_314_346),
    "deeplabv3_resnet50": ("resnet50", "deeplabv3", 42_004_074),
    "deeplabv3_resnet101": ("resnet101", "deeplabv3", 60_996_202),
    "deeplabv3_mobilenet_v3_large": ("mobilenet_v3_large", "deeplabv3", 11_029_328),
    "lraspp_mobilenet_v3_large": ("mobilenet_v3_large", "lraspp", 3_221_538),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED],
)
def test_parameters_and_multiply_adds_are_torchvisions(name):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    backbone, head, params = PUBLISHED[name]
    model = create_segmenter(backbone, head, num_classes=21, auxiliary=True)
    shapes = variable_shapes(model, 520)
    assert count_params(shapes) == params
    with torch.device("meta"):
        theirs = torchvision().models.get_model(name, weights=None, weights_backbone=None)
        image = torch.empty(1, 3, 520, 520)
    theirs.aux_classifier = None  # which runs in evaluation, too
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs.eval()(image)
    ours = count_macs(model, 520, shapes)
    assert ours == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


def torch_segmenter(name):
    """torchvision's with weights that are nowhere zero or one."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    make = torchvision().models.get_model
    options = {} if name.startswith("lraspp") else {"aux_loss": True}
    model = make(name, weights=None, weights_backbone=None, num_classes=5, **options)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.add_(torch.randn_like(layer.weight) * 0.1)
                layer.bias.normal_(0, 0.1)
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    return torch, model


def arrays_of(name, model):
    """By our names: torchvision's backbones of MobileNets are their features."""
    replace = (r"^backbone\.", "backbone.features.") if "mobilenet" in name else ("^$", "")
    return {re.sub(*replace, key): value.numpy() for key, value in model.state_dict().items()}


SLOW = (
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_logits_are_torchvisions(name):
    torch, model = torch_segmenter(name)
    backbone, head, _ = PUBLISHED[name]
    ours = create_segmenter(backbone, head, num_classes=5, auxiliary=True)
    x = np.random.default_rng(0).normal(size=(2, 64, 97, 3)).astype(np.float32)
    variables = import_arrays(variable_shapes(ours, 97), arrays_of(name, model))
    with torch.no_grad():
        expected = model.eval()(torch.tensor(x.transpose(0, 3, 1, 2)))["out"].numpy()
    apply = jax.jit(functools.partial(ours.apply, train=False), compiler_options=QUICK)
    found = apply(variables, x)
    assert found.dtype == jnp.float32 and found.shape == (2, 64, 97, 5)
    expected = expected.transpose(0, 2, 3, 1)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    for key, array in export_arrays(variables).items():  # and back, by the same names
        assert np.array_equal(array, arrays_of(name, model)[key])


def without_dropout(call, args, kwargs, context):
    return args[0] if isinstance(context.module, Dropout) else call(*args, **kwargs)


def torch_head(torch, head):
    """torchvision's head for maps of 24 and of 32 channels, and what it is called with."""
    parts = torchvision().models.segmentation
    if head == "lraspp":
        return parts.lraspp.LRASPPHead(24, 32, 5, 128), lambda head, maps: head(
            {"low": maps[0], "high": maps[1]}
        )
    make = parts.fcn.FCNHead if head == "fcn" else parts.deeplabv3.DeepLabHead
    return make(32, 5), lambda head, maps: head(maps[1])


@pytest.mark.parametrize("head", ["fcn", "deeplabv3", "lraspp"])
def test_gradients_of_heads_are_torchvisions(head):
    """In training, in float64."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    maps = [random.normal(size=(3, side, side + 1, width)) for side, width in ((17, 24), (9, 32))]
    model, call = torch_head(torch, head)
    arrays = {name: array.numpy().astype(np.float64) for name, array in model.state_dict().items()}
    model = model.double().train()
    for layer in model.modules():
        layer.p = 0.0  # of dropout
    theirs = [torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True) for x in maps]
    out = call(model, theirs)
    weight = random.normal(size=out.shape)
    (out * torch.tensor(weight)).sum().backward()

    def loss(params, maps):
        with nn.intercept_methods(without_dropout):
            logits, _ = ours.apply({"params": params}, maps, True, mutable=["batch_stats"])
        return (logits * weight.transpose(0, 2, 3, 1)).sum(), logits

    with jax.enable_x64(True):
        ours = _HEADS[head](5, layers=Layers(dtype=jnp.float64))
        used = maps if head == "lraspp" else maps[1:]
        shapes = jax.eval_shape(lambda x: ours.init(jax.random.key(0), x, False), used)
        params = import_arrays(shapes, arrays)["params"]
        params = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), params)
        found, logits = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, used)
    expected = out.detach().numpy().transpose(0, 2, 3, 1)
    assert np.abs(logits - expected).max() <= 1e-6 * np.abs(expected).max()
    gradients = {name: param.grad for name, param in model.named_parameters()}
    pairs = list(zip(reversed(found[1]), reversed(theirs), strict=False))
    pairs = [(x.transpose(0, 3, 1, 2), tensor.grad) for x, tensor in pairs]
    pairs += [
        (array, gradients.pop(name)) for name, array in export_arrays({"params": found[0]}).items()
    ]
    assert not gradients
    for array, tensor in pairs:
        scale = np.abs(tensor.numpy()).max()
        assert np.abs(array - tensor.numpy()).max() <= 1e-6 * scale + 1e-9


@pytest.mark.parametrize(
    ("backbone", "size", "blocks"),
    [("resnet18", 64, 5), ("convnext_tiny", 64, 5), ("vit_ti16", 32, 4), ("resnet8", 32, 2)],
)
def test_unet_decodes_any_backbone(backbone, size, blocks):
    model = create_segmenter(backbone, "unet", num_classes=3)
    shapes = variable_shapes(model, size)
    decoder = shapes["params"]["decoder"]
    assert len(decoder) == blocks + 1
    image = jnp.zeros((1, size, size, 3))
    logits = jax.eval_shape(lambda v: model.apply(v, image, train=False), shapes)
    assert logits.shape == (1, size, size, 3)


def test_unet_has_the_shapes_of_segmentation_models_pytorch():
    """Unet("resnet34", classes=1) of version 0.5 has 24,436,369 parameters."""
    shapes = variable_shapes(create_segmenter("resnet34", "unet", num_classes=1), 64)
    assert count_params(shapes) == 24_436_369
    first = shapes["params"]["decoder"]["blocks.0"]["conv1.0"]["kernel"]
    assert first.shape == (3, 3, 512 + 256, 256)


def test_what_a_head_cannot_use_is_refused():
    with pytest.raises(ConfigError, match=r"there is no head 'fcnn'; expected fcn.*did you mean"):
        create_segmenter("resnet18", "fcnn", num_classes=2)
    with pytest.raises(ConfigError, match="lraspp needs a map of stride 8"):
        create_segmenter("vit_ti16", "lraspp", num_classes=2)

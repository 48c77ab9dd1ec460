"""Random weights of the reference implementations give the same numbers in ours."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import reference_model
from test_table import FAMILIES

from imagenet_jax.models import create_model
from imagenet_jax.models.backbone import ALL
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.models.layers.platforms import lowering_for
from imagenet_jax.weights.other_names import from_timm_efficientnet
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays

# The oracle is exact at any level of optimisation, and this one compiles in a third of the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Convolutions in float64 run 6 to 31 times as long at level 0 (EfficientNet-B0, ResNeXt-50).
LOOPS = QUICK | {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": True}
SIZES = {
    **{"alexnet": 96, "inception_v3": 128, "inception_resnet_v1": 96},
    **{"bit_r152x2": 128, "bit_r152x4": 128},
}
# Their last maps in float32 are 1e-4 to 6e-4 of the scale from those in float64, torch's too.
DEEP = ("bit_r101x1", "bit_r101x3", "bit_r152x2", "bit_r152x4", "efficientnet_lite4")
# Where the loss's gradient and the running statistics are compared too, and the size for it.
TRAINED = {name: 64 for name in FAMILIES if FACTS[name].reference} | {
    **{"alexnet": 96, "inception_v3": 299, "resnext50_32x4d": 64, "vit_ti16": 224},
    **{"mixer_s32": 224, "vgg11": 32, "vgg11_bn": 32, "inception_resnet_v1": 160},
    "mobilefacenet": 112,
}


def torch_model(name, output_stride=32, blur_pool="", stage_sizes=()):
    """The reference model with weights that are nowhere zero or one."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    reference, options = FACTS[name].reference, {}
    # Torchvision's ResNets have neither other sizes nor, of two layers a block, dilation.
    if stage_sizes or (output_stride < 32 and name == "resnet18"):
        reference = f"timm {name}"
    if reference.startswith("timm"):
        options = {"output_stride": output_stride} if output_stride < 32 else {}
        options |= {"layers": stage_sizes} if stage_sizes else {}
    elif output_stride < 32 and name.startswith("mobilenet"):
        options = {"dilated": True}
    elif output_stride < 32:
        options = {"replace_stride_with_dilation": (False, output_stride == 8, True)}
    model = reference_model(reference, **options)
    add_blur_pool(torch, model, blur_pool)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        for key, param in model.named_parameters():
            if param.ndim <= 1 or key.endswith("gain"):
                param.add_(torch.randn_like(param) * 0.1)
            elif any(part in key for part in ("head", "table", "pos_embed", "token")):
                param.add_(torch.randn_like(param) * 0.02)
    return model


def add_blur_pool(torch, model, kind):
    """The changes of FFCV's recipes ("conv") and of Composer's ("all"), without other names."""

    class Blur(torch.nn.Module):
        def forward(self, x, stride=2):
            line = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype)
            kernel = (torch.outer(line, line) / 16).expand(x.shape[1], 1, 3, 3)
            options = {"stride": stride, "padding": 1, "groups": x.shape[1]}
            return torch.nn.functional.conv2d(x, kernel, **options)

    blur = Blur()
    for layer in model.modules() if kind else ():
        strided = isinstance(layer, torch.nn.Conv2d) and max(layer.stride) > 1
        if strided and layer.in_channels >= 16:
            layer.register_forward_pre_hook(lambda layer, inputs: blur(inputs[0], stride=1))
    if kind == "all":
        model.maxpool = torch.nn.Sequential(torch.nn.MaxPool2d(3, 1, 1), blur)


def converted(name, model, size, **options):
    """Our model of this name and its variables, from the torch model's."""
    ours = create_model(name, num_classes=1000, **options)
    arrays = {key: value.numpy() for key, value in model.state_dict().items()}
    if "lite" in name:
        arrays = from_timm_efficientnet(arrays, ours)
    return ours, import_arrays(variable_shapes(ours, size), arrays)


def images(height, width, count=2):
    return np.random.default_rng(0).normal(size=(count, height, width, 3)).astype(np.float32)


def check_logits_and_maps(name, height, width, **options):
    """`options`: output_stride, blur_pool, stage_sizes, of ours and of the reference."""
    torch = pytest.importorskip("torch")
    need = 5 * 4 * FACTS[name].params  # copies of the parameters: torch's, ours, XLA's
    if need > available_memory():
        pytest.skip(f"{need / 1e9:.0f} GB of memory are not free")
    model = torch_model(name, **options).eval()
    x = images(height, width)
    ours, variables = converted(name, model, max(height, width), **options)
    if name.startswith("bit_r152"):
        model = model.double()  # in float32 torch's own error is as large as what is allowed
    apply = jax.jit(functools.partial(ours.apply, train=False, names=ALL), compiler_options=QUICK)
    with lowering_for("cpu"):
        theirs = torch_maps(name, model, jax.eval_shape(apply, variables, x)[1])
    with torch.no_grad():
        inputs = torch.tensor(x.transpose(0, 3, 1, 2), dtype=next(model.parameters()).dtype)
        expected = model(inputs).numpy()
    del model
    with lowering_for("cpu"):
        logits, maps = apply(variables, x)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    allowed = 5e-4 if name in DEEP else 1e-4
    for key, found in maps.items():
        expected = as_ours(name, theirs[key], found.shape)
        assert np.abs(found - expected).max() <= allowed * np.abs(expected).max(), key


def torch_maps(name, model, names):
    """{name: the module's output}, filled when the model is called."""
    maps = {}

    def keep(key, module, inputs, output):
        maps[key] = output.clone()  # which the next ReLU may change in place

    for key in names:
        module = "act1" if key == "relu" and not hasattr(model, "relu") else key
        if "lite" in name:
            number = int(key.removeprefix("features."))
            module = {0: "bn1", 8: "bn2"}.get(number, f"blocks.{number - 1}")
        model.get_submodule(module).register_forward_hook(functools.partial(keep, key))
    return maps


def as_ours(name, array, shape):
    """A torch map as [B, h, w, C]."""
    array = array.numpy()
    if name.startswith(("vit", "deit", "mixer")):
        return array[:, -shape[1] * shape[2] :].reshape(shape)  # without the class token
    return array if name.startswith("swin") else array.transpose(0, 2, 3, 1)


def available_memory():
    """Bytes; 16 GB where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 16e9
    return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)


LONG = (  # to compile; they are in the slow set
    *("nfnet_f0", "bit_r50x1", "inception_v3", "efficientnet_v2_s", "vgg11_bn"),
    *("convnextv2_tiny", "densenet121", "googlenet", "regnet_y_400mf", "swin_t", "convnext_tiny"),
    "inception_resnet_v1",
)


def sides(name):
    """Odd and not square, but for models of one size."""
    size = FACTS[name].image_size
    if name.startswith(("vit", "deit", "mixer", "mobilefacenet")):
        return size, size
    least = SIZES.get(name, 64)
    return least, least + 33


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LONG))
        for name in FAMILIES
        if FACTS[name].reference
    ],
)
def test_logits_and_maps_are_the_references(name):
    check_logits_and_maps(name, *sides(name))


FORMS = [
    *(("resnet18", {"output_stride": 8}), ("resnet50", {"output_stride": 8})),
    ("mobilenet_v3_large", {"output_stride": 16}),
    *(
        (name, {"stage_sizes": (1, 1, 1, 1)} | options)
        for name, options in (
            ("resnetrs50", {"blur_pool": "conv"}),
            ("resnet18d", {"output_stride": 8, "blur_pool": "all"}),
            ("resnet50", {"blur_pool": "all"}),
        )
    ),
    *(
        pytest.param(name, options, marks=pytest.mark.slow)
        for name, options in (
            ("resnet50", {"output_stride": 16}),
            ("mobilenet_v3_small", {"output_stride": 16}),
            ("resnext50_32x4d", {"output_stride": 8}),
            ("resnet18d", {}),
            ("resnetrs50", {}),
            ("resnet50d", {"output_stride": 16}),
            ("resnet18", {"blur_pool": "conv"}),
        )
    ),
]


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_other_forms_are_the_references(name, options):
    check_logits_and_maps(name, 64, 97, **options)


# One worker takes the large ones, one after the other: two at once may not fit into memory.
LARGE = pytest.mark.xdist_group("large")
VARIANTS = [
    pytest.param(name, marks=[LARGE] if FACTS[name].params > 2e8 else [])
    for name in FACTS
    if FACTS[name].reference and name not in FAMILIES
]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_maps_of_all_variants_are_the_references(name):
    check_logits_and_maps(name, *sides(name))


# Others of their layers stand for them in CI.
KIN = (
    *("vgg11", "resnext50_32x4d", "convnext_tiny", "efficientnet_b0", "inception_v3"),
    *("mobilenet_v2", "nfnet_f0", "densenet121", "efficientnet_v2_s", "regnet_y_400mf"),
    *("googlenet", "convnextv2_tiny", "bit_r50x1", "vgg11_bn", "efficientnet_lite0"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            pytest.param(name, {}, marks=[pytest.mark.exhaustive] * (name in KIN))
            for name in TRAINED
        ),
        ("resnet18", {"output_stride": 8}),
        pytest.param("mobilenet_v3_small", {"output_stride": 16}, marks=pytest.mark.exhaustive),
        ("resnet18d", {"blur_pool": "all"}),
        pytest.param("resnetrs50", {"blur_pool": "conv"}, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_gradients_and_statistics_are_the_references(name, options):
    """In float64: a ReLU that flips by rounding alone changes float32 gradients by a hundredth."""
    torch = pytest.importorskip("torch")
    model, size = torch_model(name, **options).train().double(), TRAINED.get(name, 64)
    for layer in model.modules():
        dropout = isinstance(layer, torch.nn.modules.dropout._DropoutNd)
        if dropout or type(layer).__name__ == "StochasticDepth":
            layer.p = 0.0
    x, labels = images(size, size).astype(np.float64), np.array([3, 141])
    with jax.enable_x64(True):
        found, tree = loss_and_gradient(name, model, x, labels, **options)

    out = model(torch.tensor(x.transpose(0, 3, 1, 2)))
    heads = [out] if torch.is_tensor(out) else list(out)
    losses = [torch.nn.functional.cross_entropy(head, torch.tensor(labels)) for head in heads]
    loss = losses[0] + 0.3 * sum(losses[1:])
    loss.backward()
    assert found == pytest.approx(loss.item(), rel=1e-6)
    expected = {key: param.grad.numpy() for key, param in model.named_parameters()}
    expected |= {key: buffer.numpy() for key, buffer in model.named_buffers()}
    if "lite" in name:
        expected = from_timm_efficientnet(expected, create_model(name, num_classes=1))
    largest = max(np.linalg.norm(array) for array in expected.values())
    for key, array in tree.items():
        error, norm = np.linalg.norm(array - expected[key]), np.linalg.norm(expected[key])
        assert error <= 1e-3 * max(norm, 1e-6 * largest), (key, error, norm)


def loss_and_gradient(name, model, x, labels, **options):
    """Our loss, and {torch's name: gradient or updated statistic}, without dropout."""
    ours, variables = converted(name, model, x.shape[1])
    variables = jax.tree.map(lambda array: array.astype(np.float64), variables)
    none = ("dropout", "drop_path", "auxiliary_dropout")
    options |= {option: 0.0 for option in none if hasattr(ours, option)}
    options["fused_norm"] = True
    if "lite" in name:
        options["bn_momentum"] = 0.9  # timm's; ours is TensorFlow's
    ours = create_model(name, num_classes=1000, dtype=jnp.float64, **options)

    def loss_fn(params):
        logits, updated = ours.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            x,
            train=True,
            mutable=["batch_stats", "auxiliary"],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        for head in jax.tree.leaves(updated.get("auxiliary", {})):
            extra = optax.softmax_cross_entropy_with_integer_labels(head, labels).mean()
            loss += 0.3 * extra
        return loss, updated.get("batch_stats", {})

    step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True), compiler_options=LOOPS)
    with lowering_for("cpu"):
        (loss, batch_stats), gradient = jax.device_get(step(variables["params"]))
    return loss, export_arrays({"params": gradient, "batch_stats": batch_stats})

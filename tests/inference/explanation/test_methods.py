"""Heat maps against captum's and pytorch-grad-cam's, on converted weights."""

import functools

import jax
import numpy as np
import pytest
from oracles import reference_model, torchvision

from imagenet_jax.config import base_config
from imagenet_jax.inference.explanation import Explainer
from imagenet_jax.inference.explanation import gradients as gradients_of
from imagenet_jax.inference.explanation.occlusion import windows
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.state import init_variables
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.torch_layout import import_arrays

STEPS = 5  # gradients of an image


@functools.cache
def oracles():
    """captum.attr and pytorch_grad_cam; skips without."""
    torchvision()
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    return captum, pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")


def torch_lenet(nn):
    """With our names of layers."""

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
            self.fc1, self.fc2, self.fc3 = (
                nn.Linear(*sides) for sides in ((400, 120), (120, 84), (84, 1000))
            )
            self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)

        def forward(self, x):
            x = self.pool1(self.conv1(x).relu())
            x = self.pool2(self.conv2(x).relu()).flatten(1)
            return self.fc3(self.fc2(self.fc1(x).relu()).relu())

    return LeNet()


def both(name, size, torch_options=None, **options):
    """A trained model of random weights, and torch's with the same ones."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    if name == "lenet":
        theirs = torch_lenet(torch.nn)
    else:
        theirs = reference_model(FACTS[name].reference, **(torch_options or {})).eval()
    with torch.no_grad():
        for key, param in theirs.named_parameters():  # none is zero or one
            if param.ndim <= 1 or "head" in key:
                param.add_(torch.randn_like(param) * 0.1)
    config = base_config()
    config.model.name, config.data.image_size = name, size
    model = create_model(name, num_classes=1000, **options)
    arrays = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = import_arrays(variable_shapes(model, size), arrays)
    return TrainedModel(name, model, variables, Classification.of_size(config, 1000)), theirs


def pictures(size, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_torch(images):
    torch = pytest.importorskip("torch")
    return torch.tensor(np.moveaxis(np.array(images), -1, 1))


def close(found, expected):
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max() > 0


def close_but_for_kinks(found, expected):
    """Of gradients through ReLU: what is zero but for rounding has another slope on another CPU,
    which changes what that unit sees, and little."""
    apart, scale = np.abs(found - expected), np.abs(expected).max()
    assert np.median(apart) <= 1e-4 * scale > 0 and apart.max() <= 0.05 * scale
    assert np.linalg.norm(apart) <= 1e-2 * np.linalg.norm(expected)


def scaled(array):
    low = array - array.min((1, 2), keepdims=True)
    return low / low.max((1, 2), keepdims=True)


# The last map, and of transformers what pytorch-grad-cam's guide takes.
LAYERS = {
    "lenet": ("pool2", 32),
    "resnet18": ("layer4", 64),
    "mobilenet_v2": ("features", 64),
    "regnet_y_400mf": ("trunk_output", 64),
    "squeezenet1_1": ("features", 64),
    "vit_ti16": ("blocks.11.norm1", 224),
    "mixer_s32": ("blocks.7", 224),
}
FAST = ("lenet",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in LAYERS]
)
def test_grad_cam_is_that_of_two_other_implementations(name):
    captum, grad_cam = oracles()
    layer, size = LAYERS[name]
    trained, theirs = both(name, size)
    explainer, pixels = Explainer(trained), pictures(size)
    found = np.stack([one.maps["grad_cam"] for one in explainer.explain(pixels, of_class=7)])
    height, width = explainer.place.sides
    inputs = as_torch(trained.task.image_inputs(pixels))

    def as_map(x):
        """Of tokens [B, T, C] those of patches, as [B, C, h, w]."""
        if x.ndim == 4:
            return x
        return x[:, -height * width :].reshape(len(x), height, width, -1).permute(0, 3, 1, 2)

    module = theirs.get_submodule(layer)
    # It divides by the largest value and 1e-7, which is not little of the map of a small gradient.
    targets = [lambda logits: 1e4 * logits[7]] * 2
    with grad_cam.GradCAM(theirs, [module], reshape_transform=as_map) as cam:
        close(scaled(found), cam(inputs, targets))
    if name in ("vit_ti16", "mixer_s32"):  # captum takes the mean over the channels
        return
    coarse = captum.LayerGradCam(theirs, module).attribute(inputs, 7, relu_attributions=True)
    fine = captum.LayerAttribution.interpolate(coarse, (size, size), "bilinear")
    close(found, fine.detach().numpy()[:, 0])


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "vit_ti16")]


@pytest.mark.parametrize("name", ["lenet", *SLOWER])
def test_other_maps_are_captums(name, monkeypatch):
    """Integrated gradients, SmoothGrad with the same noise, occlusion."""
    torch = pytest.importorskip("torch")
    captum, _ = oracles()
    size, small = 64 if name == "vit_ti16" else LAYERS[name][1], {}
    if name == "vit_ti16":
        small = {"depth": 2, "torch_options": {"img_size": 64, "depth": 2}}
    trained, theirs = both(name, size, **small)
    methods = ["integrated_gradients", "smooth_grad", "occlusion"]
    pixels = pictures(size)
    explained = Explainer(trained, steps=STEPS).explain(pixels, methods, of_class=7)
    found = {name: np.stack([one.maps[name] for one in explained]) for name in methods}
    images = np.asarray(trained.task.image_inputs(pixels))
    inputs = as_torch(images)

    theirs_of = captum.IntegratedGradients(theirs)
    expected, gap = theirs_of.attribute(inputs, 0, 7, n_steps=STEPS, return_convergence_delta=True)
    gradients_close = close_but_for_kinks if name == "resnet18" else close
    gradients_close(found["integrated_gradients"], expected.sum(1).numpy())
    gaps = [one.facts["integrated_gradients"]["gap"] for one in explained]
    np.testing.assert_allclose(gaps, gap.numpy(), rtol=1e-2, atol=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(
            [one.score for one in explained], theirs(inputs)[:, 7], rtol=1e-4
        )

    noise = as_torch(
        [gradients_of.noisy(image, step) - image for image in images for step in range(STEPS)]
    )
    monkeypatch.setattr(torch, "normal", lambda mean, std: noise)
    tunnel = captum.NoiseTunnel(captum.Saliency(theirs))
    expected = tunnel.attribute(inputs, "smoothgrad", STEPS, target=7, abs=False)
    gradients_close(found["smooth_grad"], expected.abs().sum(1).numpy())

    window, stride = windows(size)[0][1].stop, windows(size)[1][1].start
    expected = captum.Occlusion(theirs).attribute(
        inputs, (3, window, window), (3, stride, stride), 0, 7, perturbations_per_eval=8
    )
    close(found["occlusion"], expected[:, 0].numpy())


def attentions(model, inputs):
    """Of the blocks of a timm model, [B, heads, T, T] each."""
    found = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(
            lambda module, args, out: found.append(out.detach().numpy())
        )
    model(inputs)
    return found


ROLLED = {
    "one token": ("vit_ti16", {}, {}),
    "two tokens": ("deit_ti16_distilled", {}, {}),
    "the mean": ("vit_ti16", {"pool": "avg"}, {"global_pool": "avg", "class_token": False}),
    "in a loop": ("vit_ti16", {"scan": True}, {}),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(n, marks=[pytest.mark.slow] * (n != "two tokens")) for n in ROLLED]
)
def test_attention_rollout_is_the_product_of_what_timm_attends_to(kind):
    """Equation 1 of Abnar & Zuidema, with the mean over the heads."""
    torch = pytest.importorskip("torch")
    name, options, theirs_options = ROLLED[kind]
    theirs_options = theirs_options | {"img_size": 64, "depth": 2}
    trained, theirs = both(name, 64, theirs_options, depth=2, **options)
    pixels = pictures(64)
    found = np.stack([one.maps["attention_rollout"] for one in Explainer(trained).explain(pixels)])
    whole = 1
    for weights in attentions(theirs, as_torch(trained.task.image_inputs(pixels))):
        of_block = weights.mean(1) + np.eye(weights.shape[-1])
        of_block /= of_block.sum(-1, keepdims=True)
        whole = of_block @ whole if np.ndim(whole) else of_block
    tokens = {"two tokens": 2, "the mean": 0}.get(kind, 1)
    read = whole[:, :tokens].mean(1) if tokens else whole.mean(1)
    grid = as_torch(read[:, tokens:].reshape(2, 4, 4, 1))
    fine = torch.nn.functional.interpolate(grid, scale_factor=16, mode="bilinear")
    close(found, fine.numpy()[:, 0])


@pytest.mark.slow
def test_attention_rollout_of_a_network_in_int8_is_of_what_is_rounded():
    """Nearly that of the same network in floating point."""
    config = base_config()
    config.model.name, config.data.image_size = "vit_ti16", 64
    model = create_model("vit_ti16", num_classes=10, depth=2)
    variables = jax.device_get(init_variables(jax.random.key(0), model=model, image_size=64))
    whole = TrainedModel("vit", model, variables, Classification.of_size(config, 10))
    model = create_model("vit_ti16", num_classes=10, depth=2, quantize="int8")
    shapes = variable_shapes(model, 64)["batch_stats"]
    ends = {"low": np.float32(-4), "high": np.float32(4)}
    stats = jax.tree_util.tree_map_with_path(lambda path, _: ends[path[-1].key], shapes)
    rounded = TrainedModel("int8", model, {**variables, "batch_stats": stats}, whole.task)
    found, expected = (
        np.stack([one.maps["attention_rollout"] for one in Explainer(of).explain(pictures(64))])
        for of in (rounded, whole)
    )
    apart = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < apart < 0.1

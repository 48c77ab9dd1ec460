"""Detectors: torchvision's outputs, losses, gradients and boxes, and its published counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from torch_detectors import (
    arrays_of,
    objects,
    same_boxes,
    torch_anchors,
    torch_detections,
    torch_detector,
    torch_head,
    torch_losses,
    torch_targets,
)

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.models.detection import detection_method
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
ONE_STAGE = ("retinanet", "retinanet_v2", "fcos")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Detector, parameters of torchvision's pages, and those of its FrozenBatchNorm, which it does not
# count.
PUBLISHED = {
    "retinanet_resnet50_fpn": ("retinanet", 34_014_999, 53_120),
    "retinanet_resnet50_fpn_v2": ("retinanet_v2", 38_198_935, 0),
    "fcos_resnet50_fpn": ("fcos", 32_269_600, 53_120),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED],
)
def test_parameters_and_multiply_adds_are_torchvisions(name):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    kind, params, frozen = PUBLISHED[name]
    model = create_detector("resnet50", kind, num_classes=91)
    shapes = variable_shapes(model, 256)
    assert count_params(shapes) == params + frozen
    with torch.device("meta"):
        theirs = torchvision().models.get_model(name, weights=None, weights_backbone=None)
        image = torch.empty(1, 3, 256, 256)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs.head(list(theirs.backbone(image).values()))
    ours = count_macs(model, 256, shapes)
    assert ours == pytest.approx(counter.get_total_flops() / 2, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "backbone", "size"),
    [
        pytest.param("retinanet", "resnet18", 128, marks=EXHAUSTIVE),
        ("fcos", "resnet18", 128),
        *(pytest.param(kind, "resnet50", 200, marks=EXHAUSTIVE) for kind in ONE_STAGE),
    ],
)
def test_outputs_losses_and_boxes_are_torchvisions(kind, backbone, size):
    theirs = torch_detector(kind, backbone, size=size)
    torch = pytest.importorskip("torch")
    ours = create_detector(backbone, kind, num_classes=7, features=32)
    image = np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)
    arrays = {k: v for k, v in arrays_of(theirs).items() if not k.startswith("backbone.body.fc.")}
    variables = import_arrays(variable_shapes(ours, size), arrays)
    with torch.no_grad():
        x = torch.tensor(image.transpose(0, 3, 1, 2))
        maps = list(theirs.backbone(x).values())
        expected = theirs.head(maps)
    apply = jax.jit(functools.partial(ours.apply, train=False), compiler_options=QUICK)
    outputs = apply(variables, image)
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert outputs[name].dtype == jnp.float32
        assert np.abs(outputs[name] - array.numpy()).max() <= 1e-4 * array.abs().max()
    for key, array in export_arrays(variables).items():  # and back, by the same names
        assert np.array_equal(array, arrays[key])

    method, anchors = ours.method, torch_anchors(theirs, maps, x)
    assert np.array_equal(np.concatenate(method.anchors(size)), anchors[0].numpy())
    boxes, classes = objects((6, 0, 3), 8, size)
    losses = torch_losses(theirs, expected, maps, anchors, torch_targets(boxes, classes))
    same = {name: jnp.asarray(array.numpy()) for name, array in expected.items()}
    matched = method.matched(boxes, classes, size)
    over = method.denominators(matched, classes, np.ones(3, bool))
    found = jax.jit(method.losses, static_argnums=4)(same, boxes, classes, matched, size)
    assert found.keys() == losses.keys() == method.terms.keys()
    for name, value in losses.items():
        total = float(found[name].sum() / over[method.terms[name]])
        assert total == pytest.approx(float(value), rel=1e-5)

    told = torch_detections(theirs, expected, maps, anchors, size)
    mine = jax.jit(method.detections, static_argnums=(1, 2))(same, size, method.choice)
    for row, one in enumerate(told):
        count = int((mine.scores[row] > 0).sum())
        assert count == len(one["scores"]) > 20
        assert same_boxes(mine, row, one)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("retinanet", marks=EXHAUSTIVE), *ONE_STAGE[1:]])
def test_gradients_of_heads_are_torchvisions(kind):
    """Of the sum of all terms, in float64, with respect to the pyramid and to all parameters."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    size, random = 128, np.random.default_rng(0)
    model = torch_detector(kind, size=size)
    head = torch_head(kind, 32, 7)
    with torch.no_grad():
        for param in head.parameters():
            param.add_(0.1 * torch.randn_like(param) * (param.ndim == 1))
    head = head.double()
    arrays = {name: array.numpy() for name, array in head.state_dict().items()}
    maps = [random.normal(size=(2, side, side, 32)) for side in (16, 8, 4, 2, 1)]
    theirs = [torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True) for x in maps]
    boxes, classes = objects((5, 0), 6, size)
    boxes = boxes.astype(np.float64)
    anchors = [a.double() for a in torch_anchors(model, theirs, torch.zeros(2, 3, size, size))]
    model, own = model, model.head
    try:
        model.head = head
        outputs = head(theirs)
        terms = torch_losses(model, outputs, theirs, anchors, torch_targets(boxes, classes))
    finally:
        model.head = own
    sum(terms.values()).backward()

    method = detection_method(kind, 7)

    def loss(params, maps):
        module = method.head(Layers(dtype=jnp.float64)).clone(name=None)
        outputs = module.apply({"params": params}, maps, True)
        matched = method.matched(boxes, classes, size)
        over = method.denominators(matched, classes, jnp.ones(2, bool))
        parts = method.losses(outputs, boxes, classes, matched, size)
        return sum(part.sum() / over[method.terms[name]] for name, part in parts.items())

    with jax.enable_x64(True):
        module = method.head(Layers(dtype=jnp.float64)).clone(name=None)
        shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, False), maps)
        params = import_arrays(shapes, arrays)["params"]
        params = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), params)
        found = jax.device_get(jax.jit(jax.grad(loss, (0, 1)))(params, maps))
    pairs = [(x.transpose(0, 3, 1, 2), y.grad) for x, y in zip(found[1], theirs, strict=True)]
    mine = export_arrays({"params": found[0]})
    pairs += [(mine.pop(name), param.grad) for name, param in head.named_parameters()]
    assert not mine
    for array, tensor in pairs:
        scale = np.abs(tensor.numpy()).max()
        assert np.abs(array - tensor.numpy()).max() <= 1e-9 * scale + 1e-12


def test_nothing_is_found_in_padding_and_gradients_are_finite_without_objects():
    for kind in ONE_STAGE:
        method = detection_method(kind, 3, (8, 16))
        boxes, classes = objects((0, 1), 4, 64, 3)
        boxes[0] = (0, 0, 64, 64)  # of no object
        find = jax.jit(method.matched, static_argnums=2, compiler_options=QUICK)
        matched = find(boxes, classes, 64)
        assert (matched[0] < 0).all() and (matched[1] >= 0).any() and (matched <= 0).all()
        anchors = len(matched[0])
        outputs = {"cls_logits": 3, "bbox_regression": 4, "bbox_ctrness": 1}
        outputs = {name: jnp.zeros((2, anchors, n)) for name, n in outputs.items()}

        def total(outputs, method=method, rest=(boxes, classes, matched, 64)):
            return sum(part.sum() for part in method.losses(outputs, *rest).values())

        gradients = jax.jit(jax.grad(total), compiler_options=QUICK)(outputs)
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(gradients))
        assert not gradients["bbox_regression"][0].any() and gradients["cls_logits"][0].any()


def test_what_there_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"no detector 'retinnet'; expected .*did you mean"):
        create_detector("resnet18", "retinnet", num_classes=2)
    with pytest.raises(ConfigError, match=r"fpn_width = 40 is no multiple of 32"):
        create_detector("resnet18", "fcos", num_classes=2, features=40)
    with pytest.raises(ConfigError, match=r"fpn_strides = .*each of the others twice"):
        create_detector("resnet18", "fcos", num_classes=2, strides=(8, 32))
    with pytest.raises(ConfigError, match=r"maps of the backbone have the strides 16"):
        create_detector("vit_ti16", "fcos", num_classes=2)
    model = create_detector("resnet18", "fcos", num_classes=2)
    with pytest.raises(ConfigError, match=r"images of 64 x 96 pixels give maps of 8 x 12"):
        jax.eval_shape(
            lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 96, 3)), train=False)
        )

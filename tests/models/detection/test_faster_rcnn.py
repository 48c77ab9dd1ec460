"""Faster R-CNN: torchvision's proposals, boxes, losses and gradients; its sampler and RoIAlign."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from torch_detectors import arrays_of, objects, torch_detector, torch_eager, torch_targets

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.models.detection import detection_method
from imagenet_jax.models.detection.matching import BACKGROUND, IGNORED
from imagenet_jax.models.detection.roi_align import roi_align
from imagenet_jax.models.detection.sampling import counted, sampled
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays

EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)
KINDS = ("faster_rcnn", "faster_rcnn_v2")
OPTIONS = {"roi_width": 64, "roi_samples": 10**6}
SIZE = 128


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "params"),
    # torchvision's pages, and what it does not count: its FrozenBatchNorm.
    [("faster_rcnn", 41_755_286 + 53_120), ("faster_rcnn_v2", 43_712_278)],
)
def test_parameters_are_torchvisions(kind, params):
    shapes = variable_shapes(create_detector("resnet50", kind, num_classes=90), 128)
    assert count_params(shapes) == params


def both(kind):
    """torchvision's and ours with its weights, and images for them."""
    torch = torch_eager()
    theirs = torch_detector(kind)
    ours = create_detector("resnet18", kind, num_classes=7, features=32, method=OPTIONS)
    arrays = {k: v for k, v in arrays_of(theirs).items() if ".body.fc." not in k}
    variables = import_arrays(variable_shapes(ours, SIZE), arrays)
    image = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    x = torch.tensor(image.transpose(0, 3, 1, 2))
    images = torchvision().models.detection.image_list.ImageList(x, [(SIZE, SIZE)] * 2)
    return theirs, ours, variables, image, images


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["faster_rcnn", pytest.param(KINDS[1], marks=EXHAUSTIVE)])
def test_proposals_and_boxes_are_torchvisions(kind):
    torch = torch_eager()
    theirs, ours, variables, image, images = both(kind)
    with torch.no_grad():
        maps = theirs.backbone(images.tensors)
        proposals, _ = theirs.rpn(images, maps)
        told, _ = theirs.roi_heads(maps, proposals, images.image_sizes)
    outputs = jax.jit(functools.partial(ours.apply, train=False))(variables, image)
    method = ours.method
    find = jax.jit(method.detections, static_argnums=(1, 2))
    found = find(outputs, SIZE, method.choice)
    for row, expected in enumerate(proposals):
        valid = np.asarray(outputs["valid"][row])
        assert valid.sum() == len(expected) > 20
        apart = np.asarray(outputs["proposals"][row])[valid][:, None] - expected.numpy()[None]
        assert np.abs(apart).max(-1).min(0).max() < 1e-2  # their order may differ in ties
        count = int((found.scores[row] > 0).sum())
        assert count == len(told[row]["scores"]) > 5
        assert np.abs(found.scores[row, :count] - told[row]["scores"].numpy()).max() < 1e-5
        assert np.array_equal(found.classes[row, :count] + 1, told[row]["labels"].numpy())
        assert np.abs(found.boxes[row, :count] - told[row]["boxes"].numpy()).max() < 1e-2


class Heads(nn.Module):
    """Both stages on a pyramid."""

    method: object
    layers: Layers

    @nn.compact
    def __call__(self, maps, targets):
        return self.method.outputs(maps, self.layers, False, SIZE, targets)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["faster_rcnn", pytest.param(KINDS[1], marks=EXHAUSTIVE)])
def test_losses_and_gradients_are_torchvisions(kind):
    """With all anchors and proposals sampled, in float64, with respect to maps and parameters."""
    torch = torch_eager()
    theirs = torch_detector(kind)
    heads = torch.nn.ModuleDict({"rpn": theirs.rpn, "roi_heads": theirs.roi_heads})
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    random = np.random.default_rng(0)
    maps = [random.normal(size=(1, side, side, 32)) for side in (32, 16, 8, 4, 2)]
    boxes, classes = objects((5,), 8, SIZE)
    targets = torch_targets(boxes.astype(np.float64), classes)
    targets[0]["labels"] += 1
    images = torchvision().models.detection.image_list.ImageList(
        torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64), [(SIZE, SIZE)]
    )
    try:
        theirs.double()
        theirs.rpn.training = theirs.roi_heads.training = True  # and no norms
        inputs = [torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True) for x in maps]
        named = dict(zip(("0", "1", "2", "3", "pool"), inputs, strict=True))
        proposals, losses = theirs.rpn(images, named, targets)
        _, more = theirs.roi_heads(named, proposals, images.image_sizes, targets)
        losses |= more
        sum(losses.values()).backward()
        gradients = {name: param.grad.numpy() for name, param in heads.named_parameters()}
        heads.zero_grad()
    finally:
        theirs.float().eval()
        theirs.load_state_dict(state)
    arrays = {k: v.numpy() for k, v in heads.state_dict().items()}
    method = detection_method(kind, 7, **OPTIONS, anchors_sampled=10**6)

    def loss(params, maps, statistics):
        matched = method.matched(boxes, classes, SIZE)
        key = jnp.zeros((1, 2), jnp.uint32)
        given = {"boxes": boxes, "classes": classes, "matched": matched, "key": key}
        variables = {"params": params, "batch_stats": statistics}
        outputs = net.apply(variables, maps, given)
        parts = method.losses(outputs, boxes, classes, matched, SIZE)
        over = method.denominators(matched, classes, jnp.ones(1, bool))
        parts = {name: part.sum() / over[method.terms[name]] for name, part in parts.items()}
        return sum(parts.values()), parts

    with jax.enable_x64(True):
        boxes = boxes.astype(np.float64)
        net = Heads(method, Layers(dtype=jnp.float64))
        shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, None), maps)
        variables = import_arrays(shapes, arrays)
        variables = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), variables)
        grad = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        found, parts = jax.device_get(
            grad(variables["params"], maps, variables.get("batch_stats", {}))
        )
    assert parts.keys() == losses.keys()
    for name, value in losses.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=1e-6)
    mine = export_arrays({"params": found[0]})
    pairs = [(mine[name], array) for name, array in gradients.items()]
    pairs += [
        (x.transpose(0, 3, 1, 2), y.grad.numpy()) for x, y in zip(found[1], inputs, strict=True)
    ]
    assert mine.keys() == gradients.keys()
    for array, expected in pairs:
        assert np.abs(array - expected).max() <= 1e-5 * np.abs(expected).max() + 1e-12


@pytest.mark.slow
def test_both_forms_of_roi_align_are_torchvisions_with_gradients():
    torch = torch_eager()
    random = np.random.default_rng(0)
    maps = [random.normal(size=(2, side, side, 4)).astype(np.float32) for side in (32, 16, 8, 4)]
    low = random.uniform(-20, 120, (2, 30, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 150, (2, 30, 2))], -1)
    boxes = np.clip(boxes, 0, SIZE).astype(np.float32)  # as they are
    boxes[:, 0] = 0
    inputs = [torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True) for x in maps]
    names = [str(number) for number in range(4)]
    pool = torchvision().ops.MultiScaleRoIAlign(names, 7, 2)
    pool.scales = [1 / stride for stride in (4, 8, 16, 32)]
    named = dict(zip(names, inputs, strict=True))
    out = pool(named, [torch.tensor(one) for one in boxes], [(SIZE, SIZE)] * 2)
    weight = random.normal(size=out.shape).astype(np.float32)
    (out * torch.tensor(weight)).sum().backward()
    shape = (2, 30, 4, 7, 7)
    expected = out.detach().numpy().reshape(shape).transpose(0, 1, 3, 4, 2)
    weight = weight.reshape(shape).transpose(0, 1, 3, 4, 2)
    for form in ("gather", "einsum"):

        def total(maps, form=form):
            found = roi_align(maps, boxes, (4, 8, 16, 32), 7, form)
            return (found * weight).sum(), found

        gradient, found = jax.jit(jax.grad(total, has_aux=True))(maps)
        assert np.abs(found - expected).max() < 1e-4
        for array, tensor in zip(gradient, inputs, strict=True):
            theirs = tensor.grad.numpy().transpose(0, 2, 3, 1)
            assert np.abs(array - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_the_sample_has_the_asked_for_shares_and_depends_on_the_images_key_alone():
    random = np.random.default_rng(0)
    matched = np.full((4, 500), BACKGROUND, np.int32)
    for row, positives in enumerate((0, 3, 100, 500)):
        matched[row, :positives] = random.integers(0, 5, positives)
    matched[1, 10:] = IGNORED
    keys = np.arange(8, dtype=np.uint32).reshape(4, 2)
    found = jax.jit(lambda m, k: sampled(m, jax.random.wrap_key_data(k), 64, 0.25))(matched, keys)
    place, valid = np.asarray(found.place), np.asarray(found.valid)
    chosen = [matched[row][place[row][valid[row]]] for row in range(4)]
    counts = [(int((one >= 0).sum()), len(one)) for one in chosen]
    # 64 of the background; all 3 and the 7 others; 16 and 48; 16 and no other.
    assert counts == [(0, 64), (3, 10), (16, 64), (16, 16)]
    assert counted(matched, 64, 0.25).tolist() == [count for _, count in counts]
    assert not any((one == IGNORED).any() for one in chosen)
    assert all(len({*place[r][valid[r]].tolist()}) == valid[r].sum() for r in range(4))
    keys = jax.random.wrap_key_data(keys)
    alone, other = (sampled(matched[2:3], keys[row][None], 64, 0.25) for row in (2, 1))
    assert np.array_equal(alone.place[0], place[2])
    assert not np.array_equal(other.place[0], place[2])


def test_options_that_a_detector_does_not_have_are_refused():
    with pytest.raises(ConfigError, match=r"model.roi_width = 9: fcos has no such option"):
        detection_method("fcos", 3, roi_width=9)
    with pytest.raises(ConfigError, match=r"model.anchor_scale = 4: fcos has no such option"):
        detection_method("fcos", 3, anchor_scale=4)
    with pytest.raises(ConfigError, match=r"maps of the backbone have the strides"):
        create_detector("vit_ti16", "faster_rcnn", num_classes=2)

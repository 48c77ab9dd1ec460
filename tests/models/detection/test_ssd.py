"""SSD and SSDLite, and Faster R-CNN on MobileNetV3: torchvision's outputs, losses and boxes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from torch_detectors import objects, same_boxes, torch_anchors, torch_eager, torch_targets

from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_macs, count_params, variable_shapes
from imagenet_jax.weights.detectors import load_detector

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Backbone and options, size, parameters and 10^9 multiply-adds of torchvision's pages.
PUBLISHED = {
    "ssd": ("vgg16", {}, 300, 35_641_826, 34.858),
    "ssdlite": ("mobilenet_v3_large", {"reduced_tail": True}, 320, 3_440_060, 0.583),
    # With its FrozenBatchNorm, which torchvision does not count.
    "faster_rcnn_mobile": ("mobilenet_v3_large", {}, 320, 19_386_354 + 24_400, 0.719),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PUBLISHED)
def test_parameters_and_multiply_adds_are_torchvisions(kind):
    backbone, options, size, params, macs = PUBLISHED[kind]
    method = {"proposals": 150} if kind.endswith("mobile") else {}
    model = create_detector(backbone, kind, num_classes=90, method=method, **options)
    shapes = variable_shapes(model, size)
    assert count_params(shapes) == params
    if kind.startswith("ssd"):
        assert count_macs(model, size, shapes) / 1e9 == pytest.approx(macs, rel=0.01)


_SPREAD = {"ssd": 0.05, "ssdlite": 1.0, "faster_rcnn_mobile": 1.0}


@functools.cache
def torch_model(kind):
    """torchvision's with random weights that are nowhere zero."""
    torch = torch_eager()
    torch.manual_seed(0)
    name = {
        "ssd": "ssd300_vgg16",
        "ssdlite": "ssdlite320_mobilenet_v3_large",
        "faster_rcnn_mobile": "fasterrcnn_mobilenet_v3_large_320_fpn",
    }[kind]
    how = {"weights": None, "weights_backbone": None, "num_classes": 8}
    model = torchvision().models.get_model(name, **how)
    with torch.no_grad():
        for key, array in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("running_var"):
                array.uniform_(0.5, 1.5)
            elif array.ndim == 4 and key.startswith("backbone"):
                torch.nn.init.kaiming_normal_(array)
                array.mul_(1.0 if kind == "ssd" else 0.7)  # else rounding grows
            elif key.endswith("scale_weight"):
                array.uniform_(5, 20)
            elif array.ndim == 1 and array.is_floating_point():
                array.add_(torch.randn_like(array) * 0.1)
            elif array.ndim > 1:  # scores are not to be all the same, nor boxes
                share = {"rpn": 0.01, "roi_heads": 0.1, "head": _SPREAD[kind]}.get(
                    key.partition(".")[0], 1.0
                )
                array.normal_(0, share / array[0].numel() ** 0.5)
    return model.eval()


def both(kind, tmp_path):
    """torchvision's and ours with its weights, and images for them."""
    torch = torch_eager()
    theirs = torch_model(kind)
    backbone, _, size, *_ = PUBLISHED[kind]
    # Without reduced_tail, which the file has.
    ours = create_detector(backbone, kind, num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    found = load_detector(tmp_path / "weights.pth", ours)
    assert found.model.num_classes == 7
    image = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    return theirs, found.model, found.variables, image, torch.tensor(image.transpose(0, 3, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ssdlite", "ssd"])
def test_outputs_losses_and_boxes_are_torchvisions(kind, tmp_path):
    torch = torch_eager()
    theirs, model, variables, image, x = both(kind, tmp_path)
    size, method = image.shape[1], model.method
    with torch.no_grad():
        maps = list(theirs.backbone(x).values())
        expected = theirs.head(maps)
    outputs = jax.jit(functools.partial(model.apply, train=False), compiler_options=QUICK)(
        variables, image
    )
    for name, array in expected.items():
        assert np.abs(outputs[name] - array.numpy()).max() <= 1e-4 * array.abs().max()
    anchors = torch_anchors(theirs, maps, x)
    assert np.abs(np.concatenate(method.anchors(size)) - anchors[0].numpy()).max() < 1e-3

    boxes, classes = objects((6, 2), 8, size)
    boxes[0, 1] = boxes[0, 0]  # two objects with the same best anchor
    targets = torch_targets(boxes, classes)
    iou = torchvision().ops.box_iou
    matches = [
        theirs.proposal_matcher(iou(t["boxes"], a)) for t, a in zip(targets, anchors, strict=True)
    ]
    matched = method.matched(boxes, classes, size)
    # Of two anchors that overlap as much with an object, either may be its best one.
    assert (np.asarray(matched) != np.stack([m.numpy() for m in matches])).sum() <= 2
    for target in targets:
        target["labels"] += 1
    losses = theirs.compute_loss(targets, expected, anchors, matches)
    same = {name: jnp.asarray(array.numpy()) for name, array in expected.items()}
    given = np.stack([m.numpy() for m in matches]).astype(np.int32)
    over = method.denominators(given, classes, np.ones(2, bool))
    parts = jax.jit(method.losses, static_argnums=4)(same, boxes, classes, given, size)
    assert parts.keys() == losses.keys() == method.terms.keys()
    for name, value in losses.items():
        total = float(parts[name].sum() / over["positives"])
        assert total == pytest.approx(float(value), rel=1e-4)

    scores = torch.softmax(expected["cls_logits"], -1)[..., 1:]
    theirs.score_thresh = scores[0].flatten().topk(150).values[-1].item()
    told = theirs.postprocess_detections(expected, anchors, [(size, size)] * 2)
    choice = method.choice.__class__(theirs.score_thresh, method.choice.iou, 1000, 200)
    mine = jax.jit(method.detections, static_argnums=(1, 2))(same, size, choice)
    for row, one in enumerate(told):
        count = int((mine.scores[row] > 0).sum())
        assert count == len(one["scores"]) > 5
        assert same_boxes(mine, row, one, first=1)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_boxes_of_faster_rcnn_on_mobilenet_are_torchvisions(tmp_path):
    torch = torch_eager()
    theirs, model, variables, image, x = both("faster_rcnn_mobile", tmp_path)
    size = image.shape[1]
    images = torchvision().models.detection.image_list.ImageList(x, [(size, size)] * 2)
    with torch.no_grad():
        maps = theirs.backbone(x)
        proposals, _ = theirs.rpn(images, maps)
        told, _ = theirs.roi_heads(maps, proposals, images.image_sizes)
    method = model.method.__class__(7, model.method.strides, proposals=150)
    model = model.clone(method=method)
    outputs = jax.jit(functools.partial(model.apply, train=False))(variables, image)
    found = jax.jit(method.detections, static_argnums=(1, 2))(outputs, size, method.choice)
    for row, one in enumerate(told):
        assert int(outputs["valid"][row].sum()) == len(proposals[row]) > 10
        count = int((found.scores[row] > 0).sum())
        assert count == len(one["scores"]) > 5
        assert same_boxes(found, row, one, first=1)


@pytest.mark.parametrize("kind", ["ssd", "ssdlite"])
def test_other_backbones_have_the_maps_too(kind):
    model = create_detector("resnet18", kind, num_classes=3)
    shapes = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 320, 320, 3)), False)[0]
    )
    anchors = np.concatenate(model.method.anchors(320))
    assert shapes["cls_logits"].shape == (1, len(anchors), 4)
    assert shapes["bbox_regression"].shape == (1, len(anchors), 4)


def test_what_these_detectors_do_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"fpn_width = 64: it has no such pyramid"):
        create_detector("vgg16", "ssd", num_classes=3, features=64)
    with pytest.raises(ConfigError, match=r"'faster_rcnn_mobile' is for .*'mobilenet_v3_large'"):
        create_detector("resnet18", "faster_rcnn_mobile", num_classes=3)
    with pytest.raises(ConfigError, match=r"maps of the backbone have the strides"):
        create_detector("resnet18", "ssd", num_classes=3, strides=(64, 128))

"""Mask R-CNN: torchvision's masks, losses and gradients; pixels of masks in a photo."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import torchvision
from pycocotools import mask as coco_masks
from torch_detectors import arrays_of, torch_detector, torch_eager, torch_targets

from imagenet_jax.models import create_detector
from imagenet_jax.models.cost import count_params, variable_shapes
from imagenet_jax.models.detection import detection_method
from imagenet_jax.models.detection.mask_rcnn import mask_loss
from imagenet_jax.models.detection.masks import TransposedConv, mask_targets
from imagenet_jax.models.detection.roi_heads import RoIHeads
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.tasks.mask_pasting import pasted
from imagenet_jax.weights.torch_layout import export_arrays, import_arrays

SIZE = 128


@pytest.mark.parametrize(
    ("kind", "params"),
    # torchvision's pages, and what it does not count: its FrozenBatchNorm.
    [
        ("mask_rcnn", 44_401_393 + 53_120),
        pytest.param("mask_rcnn_v2", 46_359_409, marks=pytest.mark.slow),
    ],
)
def test_parameters_are_torchvisions(kind, params):
    shapes = variable_shapes(create_detector("resnet50", kind, num_classes=90), 128)
    assert count_params(shapes) == params


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("mask_rcnn", marks=pytest.mark.slow),
        pytest.param("mask_rcnn_v2", marks=(pytest.mark.slow, pytest.mark.exhaustive)),
    ],
)
def test_masks_are_torchvisions(kind):
    torch = torch_eager()
    theirs = torch_detector(kind)
    ours = create_detector("resnet18", kind, num_classes=7, features=32, method={"roi_width": 64})
    arrays = {k: v for k, v in arrays_of(theirs).items() if ".body.fc." not in k}
    variables = import_arrays(variable_shapes(ours, SIZE), arrays)
    for key, array in export_arrays(variables).items():  # and back, by the same names
        assert np.array_equal(array, arrays[key])
    image = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
    x = torch.tensor(image.transpose(0, 3, 1, 2))
    images = torchvision().models.detection.image_list.ImageList(x, [(SIZE, SIZE)])
    with torch.no_grad():
        maps = theirs.backbone(x)
        proposals, _ = theirs.rpn(images, maps)
        (told,), _ = theirs.roi_heads(maps, proposals, images.image_sizes)
    outputs = jax.jit(functools.partial(ours.apply, train=False))(variables, image)
    found = ours.method.detections(outputs, SIZE, ours.method.choice)
    count = len(told["scores"])
    assert int((found.scores[0] > 0).sum()) == count > 5
    assert np.array_equal(found.classes[0, :count] + 1, told["labels"].numpy())
    assert np.abs(found.masks[0, :count] - told["masks"][:, 0].numpy()).max() < 1e-4


@pytest.mark.slow
def test_losses_and_gradients_are_torchvisions():
    """Of the masks, with all proposals sampled, in float64, by parameters of their heads."""
    torch = torch_eager()
    theirs = torch_detector("mask_rcnn")
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    random = np.random.default_rng(0)
    low = random.integers(0, SIZE - 56, (1, 5, 2))
    # Of so many pixels that each is a part of the mask.
    boxes = np.concatenate([low, low + 56], 2).astype(np.float64)
    masks = (random.random((1, 5, 56, 56)) < 0.5).astype(np.uint8)
    whole = np.zeros((5, SIZE, SIZE), np.uint8)
    for canvas, (left, top), mask in zip(whole, low[0], masks[0], strict=True):
        canvas[top : top + 56, left : left + 56] = mask
    classes = random.integers(0, 7, (1, 5)).astype(np.int32)
    maps = [random.normal(size=(1, side, side, 32)) for side in (32, 16, 8, 4)]
    proposals = boxes + random.uniform(0, 6, boxes.shape) * [1, 1, -1, -1] / 2
    try:
        theirs.double()
        heads = theirs.roi_heads
        heads.training = True
        named = {str(k): torch.tensor(x.transpose(0, 3, 1, 2)) for k, x in enumerate(maps)}
        targets = torch_targets(boxes, classes)
        targets[0]["labels"] += 1
        targets[0]["masks"] = torch.tensor(whole)
        _, losses = heads(named, [torch.tensor(proposals[0])], [(SIZE, SIZE)], targets)
        losses["loss_mask"].backward()
        parts = {k: v for k, v in heads.named_parameters() if k.startswith("mask_")}
        gradients = {name: param.grad.numpy() for name, param in parts.items()}
        heads.zero_grad()
        arrays = {k: v.detach().numpy() for k, v in heads.state_dict().items()}
    finally:
        theirs.float().eval()
        theirs.load_state_dict(state)
    with jax.enable_x64(True):
        method = detection_method("mask_rcnn", 7, roi_width=64, roi_samples=40)
        net = RoIHeads((4, 8, 16, 32), 8, 64, layers=Layers(dtype=jnp.float64))
        both = jnp.concatenate([proposals, boxes], 1)
        numbers = jnp.tile(jnp.arange(5), 2)[None]
        first = {
            "proposals": both,
            "valid": jnp.ones((1, 10), bool),
            "numbers": numbers,
            "labels": classes[:, numbers[0]] + 1,
            "objects": boxes[:, numbers[0]],
        }
        given = {"boxes": boxes, "masks": 255 * masks}

        def loss(params):
            heads = net.bind({"params": params})
            return mask_loss(method.second_stage(heads, maps, first, True, SIZE, given)).sum()

        shapes = jax.eval_shape(
            lambda: net.init(
                jax.random.key(0), maps, both, True, lambda *_: (both, first["labels"])
            )
        )
        params = import_arrays(shapes, arrays)["params"]
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        value, found = jax.device_get(jax.jit(jax.value_and_grad(loss))(params))
    assert float(value) == pytest.approx(losses["loss_mask"].item(), rel=1e-6)
    mine = export_arrays({"params": found})
    for name, expected in gradients.items():
        assert np.abs(mine[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_each_place_becomes_four_as_torchs_do():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.ConvTranspose2d(3, 5, 2, 2)
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
    shapes = jax.eval_shape(lambda: TransposedConv(5).init(jax.random.key(0), x))
    arrays = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    found = TransposedConv(5).apply(import_arrays(shapes, arrays), x)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.slow
def test_targets_of_masks_are_torchvisions():
    """Of boxes whose masks have a part for each pixel, also beside their object."""
    torch = torch_eager()
    project = torchvision().models.detection.roi_heads.project_masks_on_boxes
    random = np.random.default_rng(0)
    low = random.integers(4, 24, (3, 2))
    boxes = np.concatenate([low, low + 56], 1).astype(np.float32)
    masks = (random.random((3, 56, 56)) < 0.5).astype(np.float32)
    whole = np.zeros((3, 84, 84), np.float32)
    for canvas, (left, top), mask in zip(whole, low, masks, strict=True):
        canvas[top : top + 56, left : left + 56] = mask
    matched = np.arange(8) % 3
    centre, half = boxes[matched, :2] + 28, random.uniform(15, 27, (8, 2))
    centre += random.uniform(-9, 9, (8, 2))
    rois = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    expected = project(torch.tensor(whole), torch.tensor(rois), torch.tensor(matched), 28)
    found = jax.jit(mask_targets, static_argnums=4)(
        masks[None], boxes[None], rois[None], matched[None], 28
    )
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-4)


def test_pixels_of_masks_are_torchvisions():
    torch = torch_eager()
    paste = torchvision().models.detection.roi_heads.paste_masks_in_image
    random = np.random.default_rng(0)
    coarse = torch.tensor(random.random((40, 1, 5, 5)), dtype=torch.float32)
    masks = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")
    low = random.uniform(-5, 80, (40, 2))
    boxes = np.concatenate([low, low + random.uniform(0.3, 60, (40, 2))], 1)
    boxes = np.clip(boxes, 0, (120, 90, 120, 90))
    expected = paste(masks, torch.tensor(boxes, dtype=torch.float32), (90, 120))[:, 0] > 0.5
    found = [coco_masks.decode(one) for one in pasted(masks[:, 0].numpy(), boxes, (90, 120))]
    apart = (np.stack(found) != expected.numpy()).sum((1, 2))
    assert apart.max() <= 2 and expected.sum() > 1000

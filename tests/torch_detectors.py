"""torchvision's detectors beside ours."""

import functools

import numpy as np
import pytest
from oracles import torchvision


@functools.cache
def torch_eager():
    """torch, which would compile RoIAlign for half a minute."""
    torch = pytest.importorskip("torch")
    torch.compiler.set_stance("force_eager")
    torchvision().ops.boxes.nms = greedy_nms
    return torch


def greedy_nms(boxes, scores, threshold):
    """torchvision.ops.nms, one box after another; its own is compiled."""
    import torch

    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    iou = torchvision().ops.box_iou(boxes, boxes)
    for number in order:
        if not (iou[number, kept] > threshold).any():
            kept.append(number)
    return torch.tensor(kept, dtype=torch.int64)


def torch_head(kind, width, classes):
    """The head of torchvision's."""
    torch = pytest.importorskip("torch")
    parts = torchvision().models.detection
    if kind == "fcos":
        return parts.fcos.FCOSHead(width, 1, classes)
    norm = functools.partial(torch.nn.GroupNorm, 32) if kind.endswith("v2") else None
    head = parts.retinanet.RetinaNetHead(width, 9, classes, norm_layer=norm)
    head.regression_head._loss_type = "giou" if norm else "l1"
    return head


@functools.cache
def torch_detector(kind, backbone="resnet18", classes=7, size=128, width=32):
    """torchvision's with random weights that are nowhere zero, which finds things."""
    torch, tv = torch_eager(), torchvision()
    torch.manual_seed(0)
    parts, pyramid = tv.models.detection, tv.ops.feature_pyramid_network
    body = tv.models.get_model(backbone, weights=None)
    last = body.fc.in_features
    if kind.startswith(("faster", "mask")):
        return _filled(_faster_rcnn(kind, body, last, width, classes, size))
    extra = pyramid.LastLevelP6P7(last if kind.endswith("v2") else width, width)
    names = {f"layer{k}": str(k) for k in (2, 3, 4)}
    widths = [last // 4, last // 2, last]
    maps = parts.backbone_utils.BackboneWithFPN(body, names, widths, width, extra)
    make = parts.fcos.FCOS if kind == "fcos" else parts.retinanet.RetinaNet
    head = torch_head(kind, width, classes)
    return _filled(make(maps, classes, head=head, min_size=size, max_size=size))


def _faster_rcnn(kind, body, last, width, classes, size):
    """All is sampled in training."""
    import torch

    parts = torchvision().models.detection
    second = kind.endswith("v2")
    norm = torch.nn.BatchNorm2d if second else None
    names = {f"layer{k}": str(k - 1) for k in (1, 2, 3, 4)}
    widths = [last // 8, last // 4, last // 2, last]
    maps = parts.backbone_utils.BackboneWithFPN(body, names, widths, width, norm_layer=norm)
    made, masks = parts.faster_rcnn, {}
    make = made.FasterRCNN
    if kind.startswith("mask"):
        make = parts.mask_rcnn.MaskRCNN
        masks["mask_head"] = parts.mask_rcnn.MaskRCNNHeads(width, [width] * 4, 1, norm)
        masks["mask_predictor"] = parts.mask_rcnn.MaskRCNNPredictor(width, width, classes + 1)
    head = made.TwoMLPHead(width * 49, 64)
    if second:
        shape = (width, 7, 7)
        head = made.FastRCNNConvFCHead(shape, [width] * 4, [64], norm_layer=norm)
    return make(
        maps,
        min_size=size,
        max_size=size,
        rpn_head=parts.rpn.RPNHead(width, 3, conv_depth=1 + second),
        box_head=head,
        box_predictor=made.FastRCNNPredictor(64, classes + 1),
        rpn_batch_size_per_image=10**6,
        box_batch_size_per_image=10**6,
        **masks,
    )


def _filled(model):
    """With random weights that are nowhere zero, so that it finds things."""
    import torch

    with torch.no_grad():
        for key, array in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("running_var"):
                array.uniform_(0.5, 1.5)
            elif key.startswith("head.") and array.ndim == 4:
                array.normal_(0, 0.03)
            elif array.ndim == 1:
                array.add_(torch.randn_like(array) * 0.1)
            if key.endswith("cls_logits.bias"):
                array.fill_(-1.5)
            if "bbox_pred" in key or "cls_score" in key:
                array.normal_(0, 0.03)
    return model.eval()


def same_boxes(found, row, told, first=0):
    """Whether the boxes of an image are those that torchvision tells, in its order but for ties;
    first: the number of its first class."""
    count = int((found.scores[row] > 0).sum())
    pairs = ((found.boxes, "boxes", 1e-2), (found.scores, "scores", 1e-5))
    pairs += ((found.classes + first, "labels", 0.5),)
    same = count == len(told["scores"])
    for array, key, most in pairs:
        mine = np.asarray(array[row, :count]).reshape(count, 1, -1)
        theirs = told[key].numpy().reshape(1, len(told["scores"]), -1)
        same = same & (np.abs(mine - theirs).max(-1) < most)
    scores = np.sort(told["scores"].numpy())[::-1]
    in_order = np.abs(found.scores[row, :count] - scores).max() < 1e-5
    return bool(same.any(0).all() and same.any(1).all() and in_order)


def arrays_of(model):
    """Its arrays by their names."""
    return {key: value.detach().numpy() for key, value in model.state_dict().items()}


def objects(counts, room, size, classes=7):
    """Boxes [B, room, 4] and classes [B, room] of so many objects in each image, padded."""
    random = np.random.default_rng(0)
    boxes = np.zeros((len(counts), room, 4), np.float32)
    numbers = np.full((len(counts), room), -1, np.int32)
    for row, count in enumerate(counts):
        low = random.uniform(0, size - 20, (count, 2))
        sides = random.uniform(8, size / 2, (count, 2))
        boxes[row, :count] = np.concatenate([low, np.minimum(low + sides, size)], 1)
        numbers[row, :count] = random.integers(0, classes, count)
    return boxes, numbers


def torch_targets(boxes, classes):
    """The same for torchvision."""
    import torch

    return [
        {"boxes": torch.tensor(b[c >= 0]), "labels": torch.tensor(c[c >= 0], dtype=torch.int64)}
        for b, c in zip(boxes, classes, strict=True)
    ]


def torch_anchors(model, maps, image):
    """Its anchors of a batch."""
    make = torchvision().models.detection.image_list.ImageList
    images = make(image, [image.shape[2:]] * len(image))
    return model.anchor_generator(images, maps)


def torch_losses(model, outputs, maps, anchors, targets):
    """Its loss terms."""
    if hasattr(model, "center_sampling_radius"):
        sizes = [x.shape[2] * x.shape[3] for x in maps]
        return model.compute_loss(targets, outputs, anchors, sizes)
    return model.compute_loss(targets, outputs, anchors)


def torch_detections(model, outputs, maps, anchors, size):
    """What it tells of each image."""
    places = [x.shape[2] * x.shape[3] for x in maps]
    each = outputs["cls_logits"].shape[1] // sum(places)
    sizes = [each * count for count in places]
    split = {name: list(array.split(sizes, 1)) for name, array in outputs.items()}
    levels = [list(array.split(sizes)) for array in anchors]
    return model.postprocess_detections(split, levels, [(size, size)] * len(anchors))

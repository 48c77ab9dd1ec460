"""Weights of whole detectors in files: torchvision's, and our own."""

import csv
import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
from absl import logging

from imagenet_jax.errors import WeightsError
from imagenet_jax.models.detection.detector import Detector
from imagenet_jax.models.detection.detr import DETR
from imagenet_jax.models.detection.retinanet import RetinaNet
from imagenet_jax.models.detection.ssd import SSD, SSDLite
from imagenet_jax.models.detection.yolox import YOLOX
from imagenet_jax.models.mobilenet import MobileNetV2, MobileNetV3
from imagenet_jax.weights.adapt import import_whole
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.head import head_paths
from imagenet_jax.weights.load import Loaded

_STEM, _THEIR_STEM = (f"backbone.{body}.stem.conv.conv.weight" for body in ("body", "backbone"))
_POOL4, _C4 = 23, 13  # numbers of layers of VGG-16 and of MobileNetV3-Large
_SIZE = 320  # pixels: parameters are for images of any size
_TORCHVISION = 91  # outputs of its detectors: numbers of COCO's categories, not all of them used


@functools.cache
def coco_classes() -> dict[int, str]:
    """The names of COCO's 80 classes by the numbers of their categories, 1 to 90."""
    file = resources.files("imagenet_jax.weights") / "coco_classes.csv"
    with file.open(encoding="utf-8", newline="") as rows:
        return {int(row["number"]): row["class_name"] for row in csv.DictReader(rows)}


def load_detector(path: Path, model: Detector) -> Loaded | None:
    """The weights of a file for a detector; None if they are of another kind of network.

    Of torchvision's 91 outputs the 80 are kept that stand for classes.

    Args:
      path: see `files.read_weights`.
      model: what they are for, but for the number of classes.

    Raises:
      WeightsError: if the file cannot be read, or is of another detector.
    """
    state = read_weights(path)
    arrays = {_our_name(name, model): array for name, array in state.arrays.items()}
    if not any(name.startswith(("head.", "roi_heads.", "class_embed.")) for name in arrays):
        return None
    names, ground = state.class_names, int(model.method.has_background)
    nothing = int(isinstance(model.method, DETR))  # whose last output is that of no object
    model = _as_wide(model, arrays)
    heads = [".".join(path) for path in head_paths(model, _SIZE)]
    bias = next(f"{head}.bias" for head in heads if re.search("cls_|class", head))
    if np.ndim(arrays.get(bias)) != 1:
        raise WeightsError(f"{path}: missing {bias}, which says the classes")
    outputs = len(arrays[bias]) // _outputs_of_a_class(model) - nothing
    if outputs == _TORCHVISION and not names:
        numbers, names = zip(*coco_classes().items(), strict=True)
        logging.info("%s: 80 of its 91 outputs stand for COCO's classes; those are kept", path)
        outputs = ground + len(numbers)
        numbers = [0] * ground + [*numbers] + [_TORCHVISION] * nothing
        for name in [f"{head}.{part}" for head in heads for part in ("weight", "bias")]:
            arrays[name] = _of_classes(name, arrays[name], numbers, _TORCHVISION + nothing)
    if isinstance(model.method, YOLOX):
        if np.shape(state.arrays.get(_THEIR_STEM))[1:2] == (12,):
            arrays[_STEM] = _of_rgb(arrays[_STEM])
        names = names or (tuple(coco_classes().values()) if outputs == 80 else ())
    model = model.clone(num_classes=outputs - ground)
    try:
        variables = import_whole(model, _SIZE, arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return Loaded(model, variables, names)


def _of_rgb(kernel: np.ndarray) -> np.ndarray:
    """YOLOX's stem, whose channels are those of four pixels, blue first."""
    parts = kernel.reshape(len(kernel), 4, 3, *kernel.shape[2:])
    return parts[:, :, ::-1].reshape(kernel.shape)


def _outputs_of_a_class(model: Detector) -> int:
    """How many of the logits of a place are of one class: those of its anchors."""
    method = model.method
    if method.needs_targets or isinstance(method, DETR):  # of a proposal, of a query
        return 1
    return len(method.anchors(_SIZE)[0]) // method.map_sides(_SIZE)[0] ** 2


def _as_wide(model: Detector, arrays: Mapping[str, np.ndarray]) -> Detector:
    """With half the channels in the last stage, where the file of MobileNetV3's has so many."""
    body = model.backbone.body
    if not isinstance(body, MobileNetV3):
        return model
    _, last = body.detector_maps
    kernel = arrays.get(f"backbone.body.{last}.0.weight")
    reduced = kernel is not None and len(kernel) == 3 * body.blocks[-1].channels
    return model.clone(backbone=model.backbone.clone(body=body.clone(reduced_tail=reduced)))


def _of_classes(name: str, array: np.ndarray, numbers: list[int], count: int) -> np.ndarray:
    """The part of a kernel or bias, as torch has them, of some of its `count` outputs.

    The first axis of offsets is of classes and their four sides, of others of anchors and classes.
    """
    each = 4 if ".bbox_pred." in name else 1
    by_class = array.reshape(-1, count, each, *array.shape[1:])
    return by_class[:, numbers].reshape(-1, *array.shape[1:])


def _our_name(name: str, model: Detector) -> str:
    """What a parameter of torchvision's is called here, also of its first versions."""
    if isinstance(model.method, RetinaNet):  # convolutions that had ReLUs between them
        found = re.fullmatch(r"(head\.\w+_head\.conv\.)(\d+)\.(weight|bias)", name)
        name = f"{found[1]}{int(found[2]) // 2}.0.{found[3]}" if found else name
    name = re.sub(r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2", name)
    name = re.sub(r"^(backbone\.fpn\.(inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\3", name)
    if isinstance(model.method, DETR):
        name = re.sub(r"in_proj_(weight|bias)$", r"in_proj.\1", name)
        return re.sub(r"^backbone\.0\.body\.", "backbone.body.", name)
    if isinstance(model.method, YOLOX):
        return re.sub(r"^backbone\.backbone\.", "backbone.body.", name)
    if isinstance(model.method, SSD):
        name = _name_in_ssd(name)
    if isinstance(model.method, SSDLite):
        name = _name_in_ssdlite(name)
    elif isinstance(model.backbone.body, MobileNetV2 | MobileNetV3):
        name = re.sub(r"^backbone\.body\.(?=\d)", "backbone.body.features.", name)
    return name


def _name_in_ssd(name: str) -> str:
    """torchvision has the later part of VGG in the first of the extra layers."""
    found = re.fullmatch(r"backbone\.extra\.0\.(\d+)\.(weight|bias)", name)
    if found:
        return f"backbone.body.features.{int(found[1]) + _POOL4}.{found[2]}"
    return re.sub(r"^backbone\.features\.", "backbone.body.features.", name)


def _name_in_ssdlite(name: str) -> str:
    """torchvision has the backbone in two parts, of which the second begins within a block."""
    found = re.fullmatch(r"backbone\.features\.([01])\.(\d+)\.(.+)", name)
    if not found:
        return name
    part, number, rest = int(found[1]), int(found[2]), found[3]
    if part == 0 and number == _C4:
        return f"backbone.body.features.{_C4}.block.0.{rest}"
    if part == 1 and number == 0:  # the rest of that block
        inside, _, rest = rest.partition(".")
        return f"backbone.body.features.{_C4}.block.{inside}.{rest}"
    return f"backbone.body.features.{number + part * _C4}.{rest}"

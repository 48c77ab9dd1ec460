"""Weights of whole detectors in files: torchvision's, and our own."""

import csv
import functools
import re
from importlib import resources
from pathlib import Path

import numpy as np
from absl import logging

from imagenet_jax.errors import WeightsError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.detection.detector import Detector
from imagenet_jax.models.mobilenet import MobileNetV2, MobileNetV3
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.head import head_paths
from imagenet_jax.weights.load import Loaded
from imagenet_jax.weights.torch_layout import import_arrays

_SIZE = 128  # pixels: parameters are for images of any size
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
    if not any(name.startswith("head.") for name in arrays):
        return None
    names = state.class_names
    (bias,) = (".".join((*head, "bias")) for head in head_paths(model, _SIZE))
    if np.ndim(arrays.get(bias)) != 1:
        raise WeightsError(f"{path}: missing {bias}, which says the classes")
    classes = len(arrays[bias]) // _outputs_of_a_class(model)
    if classes == _TORCHVISION and not names:
        numbers, names = zip(*coco_classes().items(), strict=True)
        logging.info("%s: 80 of its 91 outputs stand for COCO's classes; those are kept", path)
        for name in (bias, bias.replace("bias", "weight")):
            arrays[name] = _of_classes(arrays[name], numbers, classes)
        classes = len(numbers)
    model = model.clone(num_classes=classes)
    try:
        variables = import_arrays(variable_shapes(model, _SIZE), arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return Loaded(model, variables, names)


def _outputs_of_a_class(model: Detector) -> int:
    """How many of the logits of a place are of one class: those of its anchors."""
    return len(model.method.anchors(_SIZE)[0]) // (_SIZE // model.strides[0]) ** 2


def _of_classes(array: np.ndarray, numbers: tuple[int, ...], classes: int) -> np.ndarray:
    """The part of a kernel [anchors * classes, ...] or bias, as torch has them, of some classes."""
    by_class = array.reshape(-1, classes, *array.shape[1:])
    return by_class[:, list(numbers)].reshape(-1, *array.shape[1:])


def _our_name(name: str, model: Detector) -> str:
    """What a parameter of torchvision's is called here, also of its first versions."""
    if model.kind.startswith("retinanet"):  # convolutions that had ReLUs between them
        found = re.fullmatch(r"(head\.\w+_head\.conv\.)(\d+)\.(weight|bias)", name)
        name = f"{found[1]}{int(found[2]) // 2}.0.{found[3]}" if found else name
    name = re.sub(r"^(backbone\.fpn\.(inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\3", name)
    if isinstance(model.backbone.body, MobileNetV2 | MobileNetV3):
        name = re.sub(r"^backbone\.body\.(?=\d)", "backbone.body.features.", name)
    return name

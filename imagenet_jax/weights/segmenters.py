"""Weights of whole segmenters in files: torchvision's, segmentation_models_pytorch's, our own."""

import re
from pathlib import Path

import numpy as np
from absl import logging

from imagenet_jax.data.sources.map_classes import VOC
from imagenet_jax.errors import WeightsError
from imagenet_jax.models.heads.segmenter import Segmenter
from imagenet_jax.models.mobilenet import MobileNetV2, MobileNetV3
from imagenet_jax.weights.adapt import import_whole
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.head import head_path
from imagenet_jax.weights.load import Loaded

_HEADS = ("classifier.", "decoder.", "segmentation_head.")
_AUXILIARY = "aux_classifier."
_SIZE = 64  # pixels: parameters are for images of any size


def load_segmenter(path: Path, model: Segmenter) -> Loaded | None:
    """The weights of a file for a segmenter; None if they are of another kind of network.

    Args:
      path: see `files.read_weights`.
      model: what they are for, but for the number of classes.

    Raises:
      WeightsError: if the file cannot be read, or is of another segmenter.
    """
    state = read_weights(path)
    arrays = {_our_name(name, model): array for name, array in state.arrays.items()}
    if not any(name.startswith("backbone.") for name in arrays):
        return None
    if not any(name.startswith(_HEADS) for name in arrays):
        return None
    beside = [name for name in arrays if name.startswith(_AUXILIARY)]
    if beside and not model.auxiliary:
        logging.info("%s: the second head is left out, as config.loss.auxiliary = 0", path)
        arrays = {name: array for name, array in arrays.items() if name not in beside}
    if not beside and model.auxiliary:
        model = model.clone(auxiliary="")
    bias = ".".join((*head_path(model, _SIZE), "bias"))
    if np.ndim(arrays.get(bias)) != 1:
        raise WeightsError(f"{path}: missing {bias}, the bias of the last layer")
    model = model.clone(num_classes=len(arrays[bias]))
    try:
        variables = import_whole(model, _SIZE, arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    names = VOC if model.num_classes == len(VOC) else ()  # as torchvision's are
    return Loaded(model, variables, state.class_names or names)


def _our_name(name: str, model: Segmenter) -> str:
    """What a parameter of torchvision's or of segmentation_models_pytorch's is called here."""
    name = re.sub(r"^encoder\.", "backbone.", name)
    name = re.sub(r"^segmentation_head\.", "decoder.segmentation_head.", name)
    if isinstance(model.backbone, MobileNetV2 | MobileNetV3):
        name = re.sub(r"^backbone\.(?=\d)", "backbone.features.", name)
    return name

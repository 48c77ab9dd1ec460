"""Pretrained weights from named places and files, and the models made of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from imagenet_jax.errors import WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.weights import other_names
from imagenet_jax.weights.download import fetch
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.head import head_path
from imagenet_jax.weights.pretrained import Pretrained
from imagenet_jax.weights.torch_layout import import_arrays

LAYOUTS = {
    "torch": lambda arrays, _: dict(arrays),
    "torchvision_densenet": other_names.from_torchvision_densenet,
    "timm_efficientnet": other_names.from_timm_efficientnet,
    "efficientnet_pytorch": other_names.from_efficientnet_pytorch,
    "augreg": other_names.from_augreg,
}


def load_pretrained(weights: Pretrained) -> tuple[nn.Module, dict[str, Any]]:
    """Fetches weights, and gives the model in float32 and its variables (NumPy arrays).

    Raises:
      WeightsError: if they cannot be fetched or read, or do not fit the model.
    """
    return load_file(fetch(weights.url, weights.sha256), weights.model, weights.layout)


def load_file(path: Path, model_name: str, layout: str = "") -> tuple[nn.Module, dict[str, Any]]:
    """The model whose weights are in a file, and its variables; classes as many as in the file.

    Args:
      path: .pth, .safetensors or .npz.
      model_name: a key of `models.MODELS`.
      layout: a key of LAYOUTS; "": the one that fits.

    Raises:
      WeightsError: if the file cannot be read or does not fit the model.
    """
    arrays = read_weights(path).arrays
    layout = layout or _guess_layout(arrays)
    try:
        template = create_model(model_name, num_classes=1)
        arrays = LAYOUTS[layout](arrays, template)
        size = _image_size(template, arrays)
        classes = _num_classes(template, arrays, size)
        model = create_model(model_name, num_classes=classes)
        return model, import_arrays(variable_shapes(model, size), arrays)
    except WeightsError as error:
        raise WeightsError(f"{path} as {model_name}: {error}") from error


def _guess_layout(arrays: Mapping[str, np.ndarray]) -> str:
    marks = {
        "_conv_stem.weight": "efficientnet_pytorch",
        "conv_stem.weight": "timm_efficientnet",
        "embedding/kernel": "augreg",
        "params/embedding/kernel": "augreg",
        "features.denseblock1.denselayer1.norm.1.weight": "torchvision_densenet",
    }
    return next((layout for mark, layout in marks.items() if mark in arrays), "torch")


def _num_classes(template: nn.Module, arrays: Mapping[str, np.ndarray], size: int) -> int:
    """The length of the bias of the last layer, whose name the one-class model tells."""
    name = ".".join((*head_path(template, size), "bias"))
    if name not in arrays:
        raise WeightsError(f"missing {name}, the bias of the last layer")
    return len(arrays[name])


def _image_size(template: nn.Module, arrays: Mapping[str, np.ndarray]) -> int:
    """The image size that position-dependent weights are for; for others any will do."""
    patch = getattr(template, "patch", 0)
    if not patch:
        return 224
    tokens = 0
    if "pos_embed" in arrays:
        tokens = arrays["pos_embed"].shape[1] - (getattr(template, "pool", "") == "token")
    elif "blocks.0.mlp_tokens.fc1.weight" in arrays:
        tokens = arrays["blocks.0.mlp_tokens.fc1.weight"].shape[1]
    return patch * round(tokens**0.5) or 224

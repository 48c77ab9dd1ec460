"""Pretrained weights from named places and files, and the models made of them."""

import contextlib
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from absl import logging

from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.errors import WeightsError
from imagenet_jax.models import create_model
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.mobilefacenet import LAST_STRIDE, MobileFaceNet
from imagenet_jax.weights import other_names
from imagenet_jax.weights.download import fetch
from imagenet_jax.weights.embedders import has_embedding, without_embedding
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.fitting import models_by_size
from imagenet_jax.weights.head import head_paths
from imagenet_jax.weights.pretrained import Pretrained
from imagenet_jax.weights.state_dict import StateDict, without_prefixes
from imagenet_jax.weights.torch_layout import get_leaf, import_arrays, leaves, put_leaf

_MOST_TRIED = 6  # models that a file may be of, a second each

LAYOUTS = {
    "torch": lambda arrays, _: dict(arrays),
    "torchvision_densenet": other_names.from_torchvision_densenet,
    "timm_efficientnet": other_names.from_timm_efficientnet,
    "efficientnet_pytorch": other_names.from_efficientnet_pytorch,
    "augreg": other_names.from_augreg,
}


class Loaded(NamedTuple):
    """A model in float32 whose weights are in a file.

    Attributes:
      model: of as many classes as the file has.
      variables: NumPy arrays.
      class_names: as the file has them; () where it does not say.
      has_head: whether the last layer is in the file; if not, `variables` are without it.
      image_size: in pixels, that the weights are for; None: for any.
    """

    model: nn.Module
    variables: dict[str, Any]
    class_names: tuple[str, ...] = ()
    has_head: bool = True
    image_size: int | None = None

    @property
    def known_classes(self) -> tuple[str, ...]:
        """What the outputs are: those that the file names, ImageNet's of 1000; () if not known."""
        if not self.has_head:
            return ()
        imagenet = SYNSETS if self.model.num_classes == len(SYNSETS) else ()
        return self.class_names or imagenet


def load_pretrained(weights: Pretrained) -> Loaded:
    """Fetches weights, and gives the model and its variables.

    Raises:
      WeightsError: if they cannot be fetched or read, or do not fit the model.
    """
    return load_file(fetch(weights.url, weights.sha256), weights.model, weights.layout)


def load_file(
    path: Path,
    model_name: str,
    layout: str = "",
    *,
    may_lack_head: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    """The model whose weights are in a file, and its variables; classes as many as in the file.

    Args:
      path: see `files.read_weights`.
      model_name: a key of `models.MODELS`.
      layout: a key of LAYOUTS; "": the one that fits.
      may_lack_head: take a file without the last layer.
      options: of the model; where a file does not fit it, the plain one is tried.

    Raises:
      WeightsError: if the file cannot be read or does not fit the model; with the models of the
        table that it fits.
    """
    state = read_weights(path)
    if options and not any(name.endswith(".quantized.low") for name in state.arrays):
        options = {name: value for name, value in options.items() if name[:8] != "quantize"}
    if options:
        with contextlib.suppress(WeightsError):
            return _fitted(state, model_name, layout, may_lack_head, options)
    try:
        return _fitted(state, model_name, layout, may_lack_head)
    except WeightsError as error:
        if below := _below_prefix(state, model_name, layout, may_lack_head):
            prefix, loaded = below
            count = sum(name.startswith(prefix) for name in state.arrays)
            logging.warning(
                "%s: the weights are the %d whose names begin with %r, of %d",
                *(path, count, prefix, len(state.arrays)),
            )
            return loaded
        others = [name for name in models_by_size(state.arrays) if name != model_name]
        others = [name for name in others[:_MOST_TRIED] if _fits(state, name)]
        hint = f". The file is of --model={' or '.join(others)}" if others else ""
        raise WeightsError(f"{path} as {model_name}: {error}{hint}") from error


def _below_prefix(
    state: StateDict, model_name: str, layout: str, may_lack_head: bool
) -> tuple[str, Loaded] | None:
    """The weights below the first word of some names, as in "net.conv1.weight", if they fit.

    Raises:
      WeightsError: if those below several words do, as a student and its teacher.
    """
    below: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.arrays.items():
        word, dot, rest = name.partition(".")
        if dot:
            below.setdefault(f"{word}.", {})[rest] = array
    fitting = {}
    for prefix in sorted(below, key=lambda prefix: -len(below[prefix]))[:_MOST_TRIED]:
        inner = StateDict(without_prefixes(prefix, below[prefix]), state.class_names)
        with contextlib.suppress(WeightsError):
            fitting[prefix] = _fitted(inner, model_name, layout, may_lack_head)
    if len(fitting) > 1:
        raise WeightsError(
            f"what is below {' and '.join(map(repr, fitting))} fits; save the one that is meant"
        )
    return next(iter(fitting.items()), None)


def _fits(state: StateDict, model_name: str) -> bool:
    try:
        return bool(_fitted(state, model_name, "", True))
    except WeightsError:
        return False


def _fitted(
    state: StateDict,
    model_name: str,
    layout: str,
    may_lack_head: bool,
    options: Mapping[str, Any] | None = None,
) -> Loaded:
    options = options or {}
    template = create_model(model_name, num_classes=1, **options)
    layout = layout or _guess_layout(state.arrays)
    try:
        arrays = LAYOUTS[layout](state.arrays, template)
    except (LookupError, AttributeError, ValueError) as error:
        raise WeightsError(f"the arrays, named as in {layout}, are of another model") from error
    own_size = _image_size(template, arrays)
    size = own_size or 224
    heads = head_paths(template, size)
    prefixes = tuple(".".join((*path, "")) for path in heads)
    if has_embedding(arrays, template):
        if not may_lack_head:
            raise WeightsError("the file is of a network of embeddings, which has no classes")
        arrays = without_embedding(arrays, template, prefixes)
    if may_lack_head and not any(name.startswith(prefixes) for name in arrays):
        shapes = _without(variable_shapes(template, size), heads)
        variables = import_arrays(shapes, arrays)
        return Loaded(template, variables, has_head=False, image_size=own_size)
    shapes = variable_shapes(template, size)
    classes = _num_classes(arrays, prefixes[-1], {leaf.torch_name for leaf in leaves(shapes)})
    model = create_model(model_name, num_classes=classes, **options)
    variables = import_arrays(variable_shapes(model, size), arrays)
    names = state.class_names
    if names and len(names) != model.num_classes:
        logging.warning(
            "the file names %d classes and has %d: not used", len(names), model.num_classes
        )
        names = ()
    return Loaded(model, variables, names, image_size=own_size)


def _without(shapes: Mapping[str, Any], modules: Collection[tuple[str, ...]]) -> dict[str, Any]:
    """The shapes of a model without those of some modules."""
    kept: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for leaf in leaves(shapes):
        if leaf.path[:-1] not in modules:
            put_leaf(kept[leaf.collection], leaf.path, get_leaf(shapes[leaf.collection], leaf.path))
    return kept


def _guess_layout(arrays: Mapping[str, np.ndarray]) -> str:
    marks = {
        "_conv_stem.weight": "efficientnet_pytorch",
        "conv_stem.weight": "timm_efficientnet",
        "embedding/kernel": "augreg",
        "params/embedding/kernel": "augreg",
        "features.denseblock1.denselayer1.norm.1.weight": "torchvision_densenet",
    }
    return next((layout for mark, layout in marks.items() if mark in arrays), "torch")


def _num_classes(arrays: Mapping[str, np.ndarray], head: str, names: Collection[str]) -> int:
    """The number of outputs of the last layer, by its bias or, if it has none, by its kernel.

    Args:
      arrays: of the file.
      head: how the names of the last layer begin.
      names: of the arrays that the model has.
    """
    biased = f"{head}bias" in names
    name, what = (f"{head}bias", "bias") if biased else (f"{head}weight", "kernel")
    if name not in arrays:
        raise WeightsError(f"missing {name}, the {what} of the last layer")
    shape = arrays[name].shape
    if len(shape) != (1 if biased else 2) or not shape[0]:
        expected = "a list" if biased else "a matrix"
        raise WeightsError(f"{name} has the shape {shape}, expected that of {expected}")
    return shape[0]


def _image_size(template: nn.Module, arrays: Mapping[str, np.ndarray]) -> int | None:
    """The image size that position-dependent weights are for; None: any will do."""
    if isinstance(template, MobileFaceNet):
        shape = np.shape(arrays.get(_WHOLE_MAP))
        return LAST_STRIDE * shape[-1] if len(shape) == 4 else None
    patch = getattr(template, "patch", 0)
    name = next((name for name in ("pos_embed", _MIXER) if name in arrays), "")
    if not patch or not name:
        return None
    shape = arrays[name].shape
    tokens = shape[1] if len(shape) > 1 else 0
    if name == "pos_embed":
        tokens -= getattr(template, "tokens", 0)
    side = math.isqrt(max(tokens, 0))
    if not side or side**2 != tokens:
        raise WeightsError(f"{name} has the shape {shape}, not that of a square of patches")
    return patch * side


_WHOLE_MAP = "conv_6_dw.conv.weight"  # [channels, 1, height, width] of the last map
_MIXER = "blocks.0.mlp_tokens.fc1.weight"  # [outputs, tokens]

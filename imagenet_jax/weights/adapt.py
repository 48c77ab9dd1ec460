"""Pretrained variables for a model that differs: other classes, image size or input channels."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from imagenet_jax.models.blocks import left_without
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.heads import projector
from imagenet_jax.models.heads.embedder import own_modules
from imagenet_jax.models.layers.quantized import NAME, is_range, without_ranges
from imagenet_jax.weights.head import head_paths
from imagenet_jax.weights.masked_autoencoder import without_decoder
from imagenet_jax.weights.torch_layout import get_leaf, import_arrays, leaves, put_leaf, refuse

BACKBONE = "backbone"  # the module that a network for more than classes has its maps from


def adapt(
    variables: Mapping[str, Any],
    model: nn.Module,
    image_size: int,
    *,
    new_head: bool,
    channels: int = 3,
) -> dict[str, Any]:
    """The variables that a model takes over from those of another.

    Position embeddings are resampled (bicubic) to another image size. The first convolution is
    summed up for one input channel, and repeated and scaled for other numbers, as in timm. Blocks
    that the new model is without, by `layers.Layers.without_blocks`, are left out. Ranges of int8
    come along where both models have some. Of a masked autoencoder a classifier takes the encoder,
    see `without_decoder`.

    Args:
      variables: params and batch_stats, NumPy arrays.
      model: the new one.
      image_size: its height and width in pixels.
      channels: of its images.
      new_head: the layers whose shape depends on the number of classes start at zero, their
        biases at `layers.Layers.head_bias`; with a `head_std` their kernels are left out, and of a
        detector both.

    Returns:
      Params and batch_stats of the new model, but for what keeps its own initial values.

    Raises:
      WeightsError: listing what is missing, unexpected or of another shape.
    """
    heads = head_paths(model, image_size) if new_head else ()
    network = getattr(model, "backbone", model)
    layers = getattr(model, "layers", None) or network.layers
    thrown_away = (*own_modules(network), *projector.OWN)
    variables = without_decoder(variables, model, image_size)
    variables = left_without(variables, layers.without_blocks)
    have = {(leaf.collection, leaf.path): leaf for leaf in leaves(variables)}
    shapes = variable_shapes(model, image_size, channels)
    want = {(leaf.collection, leaf.path): leaf for leaf in leaves(shapes)}
    adapted: dict[str, Any] = {"params": {}, "batch_stats": {}}
    problems = [
        f"unexpected {leaf.torch_name} {leaf.shape}"
        for key, leaf in have.items()
        if key not in want and leaf.path[:-1] not in heads and not is_range(leaf.path)
        if leaf.path[0] not in thrown_away  # which a network for other outputs has no use for
    ]
    for key, leaf in want.items():
        if leaf.path[:-1] in heads:
            if getattr(model, "keeps_initial_head", False):
                continue
            if leaf.path[-1] == "kernel" and model.layers.head_std:
                continue
            # Zero, as in BiT: random logits of large features would first have to be unlearnt.
            value = model.layers.head_bias if leaf.path[-1] == "bias" else 0.0
            put_leaf(adapted[leaf.collection], leaf.path, np.full(leaf.shape, value, np.float32))
            continue
        if key not in have and is_range(leaf.path):
            continue
        if key not in have:
            problems.append(f"missing {leaf.torch_name}")
            continue
        array = get_leaf(variables[leaf.collection], leaf.path)
        fitted = _fit(leaf.path[-1], np.asarray(array), leaf.shape, network)
        if fitted is None:
            problems.append(f"{leaf.torch_name} has the shape {array.shape}, expected {leaf.shape}")
        else:
            put_leaf(adapted[leaf.collection], leaf.path, fitted)
    refuse(problems)
    return adapted


def import_whole(
    model: nn.Module, image_size: int, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`import_arrays` of a network with a head, of which the file may be in floating point and have
    all blocks where the model has ranges of int8, or lacks some.

    Raises:
      WeightsError: see there.
    """
    shapes = variable_shapes(model, image_size)
    if not any(name.endswith(f".{NAME}.low") for name in arrays):
        shapes = {**shapes, "batch_stats": without_ranges(shapes.get("batch_stats", {}))}
    gone = tuple(
        f"backbone.{body}{block}."
        for block in model.layers.without_blocks
        for body in ("", "body.")
    )
    kept = {name: array for name, array in arrays.items() if not name.startswith(gone)}
    return import_arrays(shapes, kept)


def as_backbone(variables: Mapping[str, Any], model: nn.Module, image_size: int) -> dict[str, Any]:
    """Variables of the backbone of a model from those of a classifier, whose head is left out.

    Args:
      variables: params and batch_stats of the classifier, NumPy arrays.
      model: with a module called "backbone", which is it or has it as "body"; other modules keep
        their own initial values.
      image_size: height and width of its images in pixels.

    Raises:
      WeightsError: listing what is missing or of another shape.
    """
    found: dict[str, Any] = {"params": {}, "batch_stats": {}}
    body = getattr(model.backbone, "body", None)
    prefix = (BACKBONE, "body") if body else (BACKBONE,)
    problems, left_out = [], {(leaf.collection, leaf.path) for leaf in leaves(variables)}
    for leaf in leaves(variable_shapes(model, image_size)):
        if leaf.path[: len(prefix)] != prefix:
            continue
        path = leaf.path[len(prefix) :]
        if (leaf.collection, path) not in left_out and is_range(path):
            continue
        if (leaf.collection, path) not in left_out:
            problems.append(f"missing {leaf.torch_name}")
            continue
        left_out.remove((leaf.collection, path))
        array = np.asarray(get_leaf(variables[leaf.collection], path))
        fitted = _fit(path[-1], array, leaf.shape, body or model.backbone)
        if fitted is None:
            problems.append(f"{leaf.torch_name} has the shape {array.shape}, expected {leaf.shape}")
        else:
            put_leaf(found[leaf.collection], leaf.path, fitted)
    refuse(problems)
    modules = sorted({".".join(path[:-1]) for _, path in left_out})
    logging.info("the weights become the backbone, without %s", ", ".join(modules) or "nothing")
    return found


def _fit(name: str, array: np.ndarray, shape: tuple[int, ...], model: nn.Module) -> Any:
    """The array in another shape, or None if that makes no sense."""
    if array.shape == shape:
        return array
    if name == "pos_embed" and array.shape[2:] == shape[2:]:
        return resample_positions(array, shape[1], model.tokens)
    others = array.shape[:2] + array.shape[3:]
    if name == "kernel" and array.ndim == 4 and others == shape[:2] + shape[3:]:
        if shape[2] == 1:
            return array.sum(2, keepdims=True)
        if array.shape[2] == 3:
            repeats = -(-shape[2] // 3)
            return np.tile(array, (1, 1, repeats, 1))[:, :, : shape[2]] * (3 / shape[2])
    return None


def resample_positions(embedding: np.ndarray, tokens: int, extra: int) -> np.ndarray:
    """Position embeddings [1, T, C] of a square of patches, for `tokens` of another one.

    The first `extra` tokens stand for no place and are kept.
    """
    kept, grid = embedding[:, :extra], embedding[:, extra:]
    old, new = round(grid.shape[1] ** 0.5), round((tokens - extra) ** 0.5)
    grid = grid.reshape(1, old, old, -1)
    shape = (1, new, new, grid.shape[-1])
    grid = np.asarray(jax.image.resize(grid, shape, "bicubic", antialias=True))
    return np.concatenate([kept, grid.reshape(1, new * new, -1)], 1)

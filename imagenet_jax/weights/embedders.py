"""Weights of networks of embeddings in files: facenet-pytorch's, InsightFace_Pytorch's, our own."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imagenet_jax.errors import WeightsError
from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.heads.embedder import CLASS_WEIGHTS, Embedder
from imagenet_jax.weights.files import read_weights
from imagenet_jax.weights.torch_layout import import_arrays

# What is learnt beside or behind the embedding, of classes; the latter is facenet-pytorch's.
_OF_CLASSES = (f"{CLASS_WEIGHTS}.", "logits.")


def load_embedder(path: Path, model: Embedder, image_size: int) -> dict[str, Any] | None:
    """The variables of a network of embeddings, but for directions of classes; None if the file
    is of another kind of network.

    Args:
      path: see `files.read_weights`.
      model: what they are for.
      image_size: height and width of its images in pixels.

    Raises:
      WeightsError: if the file cannot be read, or its embeddings are other ones.
    """
    arrays = dict(read_weights(path).arrays)
    if not has_embedding(arrays, model.backbone):
        return None
    left_out = [name for name in arrays if name.startswith(_OF_CLASSES)]
    if left_out:
        logging.info("%s: %s are left out, as they are of classes", path, ", ".join(left_out))
    arrays = {name: array for name, array in arrays.items() if name not in left_out}
    try:
        return import_arrays(variable_shapes(model.clone(classes=0), image_size), arrays)
    except WeightsError as error:
        size = arrays[_norm(model.backbone)].size
        raise WeightsError(
            f"{path}: {error}; the file is for config.embedding.size = {size} and "
            f"config.embedding.norm = True, here they are {model.backbone.num_classes} and "
            f"{model.norm}"
        ) from error


def has_embedding(arrays: Mapping[str, np.ndarray], backbone: Backbone) -> bool:
    """Whether there is a norm behind the last layer, as of embeddings."""
    return _norm(backbone) in arrays


def without_embedding(
    arrays: Mapping[str, np.ndarray], backbone: Backbone, heads: Collection[str]
) -> dict[str, np.ndarray]:
    """What a classifier may take over from a network of embeddings.

    Args:
      arrays: {torch's name: array}.
      backbone: the classifier.
      heads: how the names of its last layers begin.
    """
    gone = (*_OF_CLASSES, f"{backbone.norm_name}.", *heads)
    return {name: array for name, array in arrays.items() if not name.startswith(gone)}


def _norm(backbone: Backbone) -> str:
    return f"{backbone.norm_name}.weight"

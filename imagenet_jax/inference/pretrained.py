"""Pretrained weights as a trained model of ImageNet's classes."""

from pathlib import Path

import ml_collections

from imagenet_jax.data.sources.imagenet import SYNSETS
from imagenet_jax.errors import WeightsError
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.load import load_file, load_pretrained
from imagenet_jax.weights.pretrained import find_pretrained


def pretrained_model(name: str, config: ml_collections.ConfigDict, file: str = "") -> TrainedModel:
    """Named weights, or those of a file for the model of this name.

    Args:
      name: MODEL.TAG or MODEL.
      config: made by `weights.pretrained.pretrained_config`, maybe changed since.
      file: .pth, .safetensors or .npz; "": the named weights, fetched if need be.

    Raises:
      ConfigError: if there are no such weights.
      WeightsError: if they cannot be fetched or read, or are not of 1000 classes.
    """
    weights = None
    if file:
        found, variables = load_file(Path(file), config.model.name)
        title = file
    else:
        weights = find_pretrained(name)
        found, variables = load_pretrained(weights)
        title = weights.name
    if found.num_classes != len(SYNSETS):
        raise WeightsError(
            f"{title} has {found.num_classes} classes, ImageNet has {len(SYNSETS)}: what they mean "
            "is not known"
        )
    task = Classification(config, SYNSETS)
    return TrainedModel(title, task.model(), variables, task, weights)

"""Pretrained weights as a trained model, of ImageNet's classes or of others."""

import os
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from imagenet_jax.errors import ConfigError, WeightsError
from imagenet_jax.models.blocks import left_without
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.load import Loaded, load_file, load_pretrained
from imagenet_jax.weights.pretrained import find_pretrained


def pretrained_model(
    name: str,
    config: ml_collections.ConfigDict,
    file: str = "",
    class_names: Sequence[str] = (),
) -> TrainedModel:
    """Named weights, or those of a file for the model of this name.

    Args:
      name: MODEL.TAG or MODEL.
      config: made by `weights.pretrained.pretrained_config`, maybe changed since.
      file: see `weights.files.read_weights`; "": the named weights, fetched if need be.
      class_names: of the file; (): those that it says itself, else ImageNet's if it has 1000.

    Raises:
      ConfigError: if there are no such weights, or config.model.quantize is set.
      WeightsError: if they cannot be fetched or read, or if their classes are not known.
    """
    if config.model.quantize:
        raise ConfigError(
            f"config.model.quantize = {config.model.quantize!r}: weights of a model have no ranges "
            "of int8; `compress --quantize=int8` finds them, and makes a run that has"
        )
    weights = None
    if file:
        loaded, title = load_file(Path(os.path.expanduser(file)), config.model.name), file
    else:
        weights = find_pretrained(name)
        loaded, title = load_pretrained(weights), weights.name
    task = Classification(config, _class_names(title, loaded, tuple(class_names)))
    model, size = task.model(), config.data.image_size
    variables = left_without(loaded.variables, config.model.without_blocks)
    if loaded.image_size not in (None, size):
        variables = adapt(variables, model, size, new_head=False)
    return TrainedModel(title, model, variables, task, weights)


def _class_names(title: str, loaded: Loaded, given: tuple[str, ...]) -> tuple[str, ...]:
    count = loaded.model.num_classes
    if given and len(given) != count:
        raise WeightsError(f"{title} has {count} classes, and {len(given)} names are given")
    names = given or loaded.known_classes
    if not names:
        raise WeightsError(
            f"{title} has {count} classes, and what they mean is not known. Name them with "
            "--classes=FILE, a name a line"
        )
    return names

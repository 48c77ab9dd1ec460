"""A model with its variables and all that is needed to classify an image with it."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import ml_collections

from imagenet_jax.data.sources.imagenet import NAMES, SYNSETS
from imagenet_jax.errors import WeightsError
from imagenet_jax.tasks.classification import make_model
from imagenet_jax.training.trained import trained_run
from imagenet_jax.weights.load import load_file, load_pretrained
from imagenet_jax.weights.pretrained import Pretrained, find_pretrained


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained model.

    Attributes:
      name: of the weights, or of the run.
      model: a Linen module.
      variables: its params and batch_stats.
      class_names: as data sets call them: ImageNet's synsets, or the training set's names.
      titles: what people call the classes.
      config: config.data and config.augment say how images get to the model.
      weights: what is known of named weights.
    """

    name: str
    model: nn.Module
    variables: dict[str, Any]
    class_names: tuple[str, ...]
    titles: tuple[str, ...]
    config: ml_collections.ConfigDict
    weights: Pretrained | None = None


def pretrained_classifier(
    name: str, config: ml_collections.ConfigDict, file: str = ""
) -> Classifier:
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
    model = make_model(config, num_classes=len(SYNSETS))
    return Classifier(title, model, variables, SYNSETS, NAMES, config, weights)


def trained_classifier(
    workdir: Path, which: str, config: ml_collections.ConfigDict | None = None
) -> Classifier:
    """The model of a run; its averaged weights where it has any.

    Args:
      workdir: of the run.
      which: "latest", "best" or a step number.
      config: None: that of the checkpoint.

    Raises:
      CheckpointError: if there is no such checkpoint.
    """
    run = trained_run(workdir, which, config)
    names = run.task.class_names
    titles = tuple(NAMES[SYNSETS.index(n)] if n in SYNSETS else n for n in names)
    return Classifier(run.name, run.model, run.variables, names, titles, run.task.config)

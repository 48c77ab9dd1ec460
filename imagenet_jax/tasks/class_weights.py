"""What each class counts in the loss: config.loss.class_weights."""

from typing import Any

import ml_collections
import numpy as np

from imagenet_jax.config.loss_fields import BALANCED
from imagenet_jax.data.sources.classes import ONE, class_counts
from imagenet_jax.errors import ConfigError


def class_weights(config: ml_collections.ConfigDict, split: Any) -> tuple[float, ...]:
    """A number from 0 on for each class of a training split, or () if all count the same.

    "balanced" ones are examples / (classes x examples of the class), of the classes that any
    example has; scikit-learn's compute_class_weight. A class without examples counts 0.

    Raises:
      ConfigError: for another number of weights than of classes, weights that are all 0, or
        "balanced" where examples have several labels.
    """
    asked, count = config.loss.class_weights, len(split.source.class_names)
    if not asked:
        return ()
    if asked == BALANCED:
        if ONE not in split.source.fields:
            raise ConfigError(
                "config.loss.class_weights = 'balanced' is for one label an image; for "
                f"config.task = {config.task!r} give a number for each class"
            )
        counts = class_counts(split.source, count)
        weights = counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1))
        return tuple(np.where(counts > 0, weights, 0).tolist())
    weights = tuple(map(float, asked))
    if len(weights) != count or not any(weights):
        raise ConfigError(
            f"config.loss.class_weights has {len(weights)} numbers, {weights[:4]}...; expected one "
            f"for each of the {count} classes of config.data.name = {config.data.name!r}, not all 0"
        )
    return weights

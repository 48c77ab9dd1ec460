"""How often a network sees an image in training."""

import ml_collections

from imagenet_jax.data.names import train_size
from imagenet_jax.tasks.table import LEARN_FROM_AVERAGE


def passes_of_views(config: ml_collections.ConfigDict) -> float:
    """Passes forward and backward for each image that is read.

    Those of all its views: small ones count by their area, and what the average of the weights
    sees counts a third, the way forward.
    """
    data = config.data
    whole = data.views * data.crops
    average = whole / 3 if config.task in LEARN_FROM_AVERAGE else 0.0
    return whole + average + data.local_crops * (data.local_size / train_size(data)) ** 2

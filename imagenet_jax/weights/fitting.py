"""Which models of the table a file may be of, by counting its numbers."""

from collections.abc import Mapping

import numpy as np

from imagenet_jax.models.facts import FACTS

_NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
_CLASSES = (1000, 10)  # of the counts in the table


def models_by_size(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the models with as many parameters as a file has, whatever its last layer.

    Any matrix of the file may be the last layer, or it may have none. Whether names and shapes
    fit is not looked at.
    """
    kept = [array for name, array in arrays.items() if not name.endswith(_NO_PARAMETERS)]
    total = sum(array.size for array in kept)
    # A last layer of N classes and D features has N * (D + 1) parameters.
    layers = {(0, size) for array in kept for size in array.shape}
    for array in kept:
        if array.ndim > 1 and array.size:
            layers |= {(n, array.size // n) for n in (array.shape[0], array.shape[-1])}
    possible = {total + (c - n) * (d + 1) for n, d in layers for c in _CLASSES} | {total}
    return [name for name, facts in FACTS.items() if facts.params in possible]

"""Initial values that training images decide."""

from typing import Any

import jax
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.training.program import Program

_IMAGES = 5000  # at most, as in airbench


def fitted_variables(program: Program, split: Split) -> dict[str, Any] | None:
    """What a model's `fitted` makes of the images of a run's first batch; None if it has none.

    The images are normalised and not augmented. All processes read the same ones.
    """
    fitted = getattr(program.model, "fitted", None)
    if fitted is None:
        return None
    rows = np.arange(min(_IMAGES, program.config.batch_size))
    batches = split.train_batches(rows, 0, 1, *program.course.order_offsets)
    batch = next(batches)
    batches.close()
    inputs, _ = program.task.inputs(batch, None, None, train=False)
    return fitted(np.asarray(jax.device_get(inputs)))

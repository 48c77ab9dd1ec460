"""Initial values that training images decide."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.training.program import Program

_IMAGES = 5000  # at most, as in airbench


def data_dependent_variables(
    program: Program, open_split: Callable[[], Split]
) -> dict[str, Any] | None:
    """What a model's `data_dependent` makes of the images of a run's first batch; None without it.

    The images are normalised and not augmented. All processes read the same ones.

    Args:
      program: of the run.
      open_split: gives its training split; is called if images are needed.
    """
    initialise = getattr(program.model, "data_dependent", None)
    if initialise is None:
        return None
    rows = np.arange(min(_IMAGES, program.config.batch_size))
    batches = open_split().train_batches(rows, 0, 1, *program.course.order_offsets)
    batch = next(batches)
    batches.close()
    inputs, _ = program.task.inputs(batch, None, None, train=False)
    return initialise(np.asarray(jax.device_get(inputs)))

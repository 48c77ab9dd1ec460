"""What the network sees at the start of a run, as a picture."""

from functools import partial

import jax
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.errors import UserError
from imagenet_jax.hosts.watchdog import doing
from imagenet_jax.reports.outputs import Outputs
from imagenet_jax.reports.sheet import sheet_of_images
from imagenet_jax.terminal import working
from imagenet_jax.training.program import Program
from imagenet_jax.training.state import TrainState

_SHOWN = 32  # images, an even number as neighbours may be mixed


def first_batch(program: Program, split: Split, state: TrainState) -> np.ndarray:
    """A sheet uint8 [H, W, 3] of the first images of a run's first batch, augmented, with labels.

    By a small program of its own, and by reading these images once more, so that neither the step
    nor the feed knows of it.
    """
    config, task = program.config, program.task
    rows = np.arange(min(_SHOWN, config.batch_size))
    batches = split.train_batches(rows, 0, 1, *program.course.order_offsets)
    batch = next(batches)
    batches.close()
    key = jax.random.wrap_key_data(np.asarray(state.rng))
    inputs, targets = jax.jit(partial(task.inputs, train=True))(batch, key, np.int32(0))
    return np.asarray(sheet_of_images(*task.seen(*jax.device_get((inputs, targets)))))


def write_first_batch(program: Program, split: Split, state: TrainState, out: Outputs) -> str:
    """Gives it to the writers that take pictures.

    Returns:
      Why there is none, where it cannot be drawn: training needs no picture; else "".

    Raises:
      UserError: of the data.
    """
    doing("drawing the first batch")
    try:
        with working("drawing the first batch", stays=False):
            sheet = first_batch(program, split.at(program.config), state)
        out.write_images(1, {"train/first_batch": sheet})
    except UserError:
        raise
    except Exception as error:
        return f"the first batch cannot be drawn: {error}"
    return ""

"""What is exported of a trained model: images in, named arrays out."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from imagenet_jax.training.trained import TrainedModel


def program_of(trained: TrainedModel, inputs: str = "uint8") -> Callable[[Any, jax.Array], Any]:
    """A function of variables and images [B, S, S, 3], S being config.data.image_size.

    It gives a dict of arrays [B, ...]: logits of a classifier; segmentation, the class of each
    pixel; boxes (left, top, right, bottom in pixels of the S x S image), scores and classes of a
    detector, and masks; of several tasks theirs, as TASK or TASK/NAME.

    Args:
      trained: the model.
      inputs: "uint8": images of 0 to 255, which are normalised within; "float32": images that are
        normalised already.
    """
    task, model = trained.task, trained.model

    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        apply = partial(model.apply, variables, train=False)
        images = task.image_inputs(images) if inputs == "uint8" else images
        alone = "segmentation" if task.has_maps else "logits"
        found = named_arrays(task.shown(task.predict(apply, images)))
        return {name or alone: array for name, array in found}

    return run


def named_arrays(outputs: Any, name: str = "") -> Iterator[tuple[str, jax.Array]]:
    """The arrays of what a task shows, and their names; that of a single one is ""."""
    if hasattr(outputs, "_asdict"):
        outputs = outputs._asdict()
    if not isinstance(outputs, Mapping):
        yield name, outputs
        return
    for key, part in outputs.items():
        if part is not None:
            yield from named_arrays(part, f"{name}/{key}" if name else key)

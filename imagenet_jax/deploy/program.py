"""What is exported of a trained model: images in, named arrays out."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.errors import ExportError
from imagenet_jax.models.layers.platforms import PLAIN, lowering_for
from imagenet_jax.models.layers.quantized import without_ranges
from imagenet_jax.tasks.task import Task
from imagenet_jax.training.trained import TrainedModel

_MOST = 2**31 - 2**26  # bytes of weights in a file of 2 GB at most, which protocol buffers are


def program_of(trained: TrainedModel, inputs: str = "uint8") -> Callable[[Any, jax.Array], Any]:
    """A function of variables and images [B, S, S, 3], S being config.data.image_size.

    It gives a dict of arrays [B, ...]: logits of a classifier; embedding; features; segmentation,
    the class of each pixel; boxes (left, top, right, bottom in pixels of the S x S image), scores
    and classes of a detector, and masks; of several tasks theirs, as TASK or TASK/NAME.

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


def in_float32(trained: TrainedModel) -> TrainedModel:
    """The model with a network that computes in float32, of the same weights."""
    return with_network(trained, dtype="float32")


def in_floating_point(trained: TrainedModel) -> TrainedModel:
    """The model of the same weights that rounds nothing, whatever config.model.quantize says."""
    found = with_network(trained, quantize="", quantize_skip=())
    stats = without_ranges(trained.variables.get("batch_stats", {}))
    return dataclasses.replace(found, variables={**trained.variables, "batch_stats": stats})


def with_network(trained: TrainedModel, **fields: Any) -> TrainedModel:
    """The model with the network that these fields of config.model make, of the same variables."""
    task = _task_of(trained.task, fields)
    return dataclasses.replace(trained, model=task.model(), task=task)


def _task_of(task: Task, fields: Mapping[str, Any]) -> Task:
    """Of several tasks each, since each makes a head of its own."""
    config = task.config.copy_and_resolve_references()
    config.model.update(fields)
    parts = {name: _task_of(part, fields) for name, part in getattr(task, "tasks", {}).items()}
    return dataclasses.replace(task, config=config, **({"tasks": parts} if parts else {}))


def ends_in_float(task: Task) -> bool:
    """Whether integers end with the last weights: 255 steps are few for pixels of boxes, and for
    the length by which an embedding is divided."""
    return bool(task.part_that("has_boxes") or task.part_that("is_open_set"))


def plain_form(trained: TrainedModel) -> TrainedModel:
    """What formats with operations of their own hold: the network computes in float32, and boxes
    are `RawBoxes`, raw_boxes and raw_scores, where suppression would follow.

    Raises:
      ExportError: for a network that suppresses boxes before its end.
    """
    trained = in_float32(trained)
    return dataclasses.replace(trained, task=trained.task.without_suppression())


def plain_program(trained: TrainedModel, inputs: str) -> Callable[[jax.Array], Any]:
    """`program_of` the `plain_form` with the weights inside, of operations that every converter
    knows: none is of one kind of device alone."""
    run = program_of(plain_form(trained), inputs)
    variables = jax.tree.map(jnp.asarray, trained.variables)

    def plain(images: jax.Array) -> dict[str, jax.Array]:
        with lowering_for(PLAIN):
            return run(variables, images)

    return plain


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


def check_weights_fit(trained: TrainedModel, what: str) -> None:
    """Raises ExportError for more weights than a file of 2 GB holds."""
    weights = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(trained.variables))
    if weights > _MOST:
        raise ExportError(
            f"{trained.name} has {weights / 1e9:.1f} GB of weights, and {what} holds 2; "
            "set --format=safetensors"
        )

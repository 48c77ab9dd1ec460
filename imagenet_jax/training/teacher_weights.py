"""The weights of a teacher, in the run's order of outputs, on its devices."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagenet_jax.devices import sharding
from imagenet_jax.errors import ConfigError, WeightsError
from imagenet_jax.training.finetune import trained_variables
from imagenet_jax.training.initial import agreed
from imagenet_jax.training.program import Program
from imagenet_jax.training.teacher import teacher_config
from imagenet_jax.weights.adapt import adapt
from imagenet_jax.weights.head import head_paths


def teacher_variables(program: Program) -> tuple[Any, ...]:
    """What the compiled train step takes after state and batch: the teacher's variables on the
    devices; nothing without a teacher.

    Where both name what their outputs mean, the teacher's are put into the run's order.

    Raises:
      ConfigError: if its outputs mean something else, as other classes do.
      WeightsError, CheckpointError: if they cannot be fetched or read, or do not fit.
    """
    return marked_variables(program)[0]


def marked_variables(program: Program) -> tuple[tuple[Any, ...], int | None]:
    """`teacher_variables`, and a number that tells weights apart, however they are spread."""
    teacher, config = program.teacher, program.config
    if not teacher:
        return (), None
    name = f"config.distill.weights = {teacher.name!r}"
    variables, facts = trained_variables(teacher.name, teacher_config(config).model.name)
    order = _order(name, facts, program.task.facts())
    variables, mark = agreed(variables), 0
    for leaf in jax.tree.leaves(variables):
        mark = zlib.crc32(np.ascontiguousarray(leaf), mark)
    try:
        variables = adapt(variables, teacher.model, teacher.image_size, new_head=False)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    if order is not None:
        for path in head_paths(teacher.model, teacher.image_size):
            variables = {**variables, "params": _reordered(variables["params"], path, order)}
    shapes = teacher.shapes(program.mesh)
    variables = {part: variables.get(part, {}) for part in shapes}
    return (sharding.place(agreed(variables), shapes),), mark


def _order(name: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> np.ndarray | None:
    """The numbers of the teacher's outputs in the run's order; None: it is the same, or not
    known."""
    order = None
    for fact in theirs:
        mine, other = ours.get(fact), theirs[fact]
        if other == mine:
            continue
        if not isinstance(mine, list) or sorted(map(str, mine)) != sorted(map(str, other)):
            what = fact.replace("_", " ")
            odd = [part for part in other if part not in (mine or ())][:3]
            raise ConfigError(
                f"{name}: it has {len(other)} {what} and the data set has {len(mine or ())}"
                + (f"; {', '.join(map(repr, odd))} are not among these" if odd else "")
                + ". A teacher knows the same ones"
            )
        order = np.array([other.index(part) for part in mine])
    return order


def _reordered(tree: Any, path: tuple[str, ...], order: np.ndarray) -> Any:
    """A tree of arrays whose last axis below a path is put into another order."""
    if not path:
        return {
            name: array[..., order] if array.shape[-1] == len(order) else array
            for name, array in tree.items()
        }
    return {**tree, path[0]: _reordered(tree[path[0]], path[1:], order)}

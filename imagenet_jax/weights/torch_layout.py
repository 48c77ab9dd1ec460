"""Variables as torch has them: names joined by dots, output channels first.

Modules are named as in the reference implementation (see `models.layers`), so only the last part
of a name and the order of the axes differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagenet_jax.errors import WeightsError

_LAST = {
    "kernel": "weight",
    "transposed_kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
# Buffers that follow from the architecture, or are never read.
_NOT_USED = ("num_batches_tracked", "relative_position_index")
_SHOWN = 8


class Leaf(NamedTuple):
    """An array of a model: its collection, its path there, its name in torch, its shape here."""

    collection: str
    path: tuple[str, ...]
    torch_name: str
    shape: tuple[int, ...]


def leaves(variables: Mapping[str, Any]) -> Iterator[Leaf]:
    """The parameters and running statistics of a model, or of their shapes."""
    for collection in ("params", "batch_stats"):
        yield from _leaves(collection, (), variables.get(collection, {}))


def _leaves(collection: str, path: tuple[str, ...], tree: Any) -> Iterator[Leaf]:
    if not isinstance(tree, Mapping):
        *modules, last = path
        name = ".".join([*modules, _LAST.get(last, last)])
        yield Leaf(collection, path, name, tuple(tree.shape))
        return
    for key, value in tree.items():
        yield from _leaves(collection, (*path, key), value)


def to_torch(name: str, array: np.ndarray) -> np.ndarray:
    """The array of a leaf whose own name is `name`, in torch's order of axes."""
    if name == "kernel":
        return array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))
    return array.transpose(2, 3, 0, 1) if name == "transposed_kernel" else array


def from_torch(name: str, array: np.ndarray) -> np.ndarray:
    """The opposite of `to_torch`."""
    if name == "kernel":
        return array.transpose((2, 3, 1, 0) if array.ndim == 4 else (1, 0))
    return array.transpose(2, 3, 0, 1) if name == "transposed_kernel" else array


def import_arrays(shapes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables made of torch's arrays.

    Args:
      shapes: of the model's variables, see `models.cost.variable_shapes`.
      arrays: {torch's name: array}; all of them are used, but for buffers that follow from the
        architecture.

    Returns:
      {"params": ..., "batch_stats": ...} of float32 NumPy arrays.

    Raises:
      WeightsError: listing the missing, the unexpected and the mis-shaped arrays.
    """
    wanted = {leaf.torch_name: leaf for leaf in leaves(shapes)}
    given = {name: array for name, array in arrays.items() if not name.endswith(_NOT_USED)}
    problems = [f"missing {name}" for name in wanted if name not in given]
    problems += [f"unexpected {name} {given[name].shape}" for name in given if name not in wanted]
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, leaf in wanted.items():
        if name not in given:
            continue
        kernel = leaf.path[-1].endswith("kernel")
        if kernel and given[name].ndim != len(leaf.shape):
            problems.append(f"{name} has the shape {given[name].shape} of another kind of layer")
            continue
        array = from_torch(leaf.path[-1], given[name])
        if array.shape != leaf.shape:
            expected = to_torch(leaf.path[-1], np.broadcast_to(0, leaf.shape)).shape
            problems.append(f"{name} has the shape {given[name].shape}, expected {expected}")
            continue
        put_leaf(variables[leaf.collection], leaf.path, np.array(array, np.float32, order="C"))
    refuse(problems)
    return variables


def export_arrays(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{torch's name: float32 array in torch's order of axes}; the opposite of `import_arrays`."""
    arrays = {}
    for leaf in leaves(variables):
        value = get_leaf(variables[leaf.collection], leaf.path)
        array = to_torch(leaf.path[-1], np.asarray(value))
        arrays[leaf.torch_name] = np.array(array, order="C")
    return arrays


def refuse(problems: Sequence[str]) -> None:
    """Raises WeightsError with the first problems, if there are any."""
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise WeightsError(
            f"the weights do not fit the model: {'; '.join(problems[:_SHOWN])}{more}"
        )


def get_leaf(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path of nested dicts."""
    for key in path:
        tree = tree[key]
    return tree


def put_leaf(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Sets the value at a path, making the dicts on the way."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value

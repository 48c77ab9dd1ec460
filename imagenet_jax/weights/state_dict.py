"""The weights among what a training script saved: which dictionary, under which names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from imagenet_jax.errors import WeightsError
from imagenet_jax.weights.pickle_data import shown
from imagenet_jax.weights.torch_file import Tensor, open_torch_file

# Where it is, the first that is there; averages first, as timm.models.load_checkpoint does.
_WRAPPERS = (
    *("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model_state", "model"),
)
# Of modules around the network: DistributedDataParallel, torch.compile, Lightning, self-supervision
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the network
_CLASSES = ("class_names", "classes", "names", "class_to_idx")


class StateDict(NamedTuple):
    """Arrays by their names in a file, and the names of the classes if they are in it, too."""

    arrays: dict[str, np.ndarray]
    class_names: tuple[str, ...] = ()


def read_torch_file(path: Path) -> StateDict:
    """The named tensors of a state_dict that torch.save wrote; the arrays are not to be changed.

    Where the file holds more, averaged weights are preferred to those of the last step, and a
    line of the log says which were taken.

    Raises:
      WeightsError: if the file is damaged, has no state_dict or not only tensors in it; see
        `torch_file.open_torch_file`.
    """
    file = open_torch_file(path)
    try:
        state, place = _state_dict(file.tree)
        arrays = {name: file.view(tensor) for name, tensor in state.items()}
    except (WeightsError, ValueError, OverflowError, LookupError) as error:
        raise WeightsError(f"{path}: {error}") from error
    if place:
        several = sum(isinstance(file.tree.get(name), Mapping) for name in _WRAPPERS) > 1
        level = logging.WARNING if several else logging.INFO  # a terminal does not show the latter
        logging.log(level, "%s: the weights are those in %r", path, place)
    return StateDict(without_prefixes(path, arrays), _class_names(file.tree))


def _state_dict(tree: Any) -> tuple[dict[str, Tensor], str]:
    """The tensors by their names, and under which names they stand in the file, joined by dots."""
    places = []
    while isinstance(tree, Mapping):
        place = next((name for name in _WRAPPERS if isinstance(tree.get(name), Mapping)), None)
        if place is None:
            place = _only_tensors(tree)
        if place is None:
            break
        tree, places = tree[place], [*places, place]
    if not isinstance(tree, Mapping):
        raise WeightsError(f"it holds a {type(tree).__name__}, not a state_dict")
    others = [shown(str(name)) for name, value in tree.items() if not _is_state({name: value})]
    if others or not tree:
        raise WeightsError(f"not only tensors: {', '.join(others[:5]) or 'it is empty'}")
    return {name: value for name, value in tree.items() if name != _COUNTER}, ".".join(places)


def _only_tensors(tree: Mapping[Any, Any]) -> str | None:
    """Where tensors by names are, in the one place that is called otherwise than _WRAPPERS."""
    found = [
        name
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, Mapping) and value and _is_state(value)
    ]
    if len(found) > 1:
        raise WeightsError(
            f"it has several sets of tensors, {shown(', '.join(found))}; save the one that is meant"
        )
    return found[0] if found else None


def _is_state(tree: Mapping[Any, Any]) -> bool:
    return all(isinstance(n, str) and isinstance(value, Tensor) for n, value in tree.items())


def without_prefixes(path: Path | str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by the names that the network gives them, without what all of them begin with."""
    dropped, left = "", True
    while left and arrays:
        left = next((p for p in _PREFIXES if all(name.startswith(p) for name in arrays)), "")
        arrays = {name.removeprefix(left): array for name, array in arrays.items()}
        dropped += left
    if dropped:
        logging.info("%s: all names begin with %r, which is dropped", path, dropped)
    return arrays


def _class_names(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """What a file says of its classes beside the weights: a list, {number: name} or the reverse."""
    found = next((tree[name] for name in _CLASSES if isinstance(tree.get(name), list | dict)), [])
    if isinstance(found, dict):
        numbered = {n: name for name, n in found.items()} if _are(str, found) else found
        found = [numbered.get(number) for number in range(len(numbered))]
    return tuple(found) if _are(str, found) else ()


def _are(kind: type, values: Any) -> bool:
    return all(type(value) is kind for value in values)

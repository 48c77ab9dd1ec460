"""Channel pruning: a smaller network of the channels that matter most, with their weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.channels import Group, channel_groups
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.training.trained import TrainedModel

# Of what is left, from so many on: vector units like 8. The others are for networks in which blocks
# without a shortcut would get one, as they would give as many channels as they get.
_MULTIPLES, _FROM = (8, 4, 2, 1), 16
_LEAST = 0.1  # of each group that is left, however little its channels matter


def without_channels(
    trained: TrainedModel, share: float, *, importance: str = "l2", scope: str = "layer"
) -> TrainedModel:
    """The model with a share of its channels removed; config.model.channels says which are left.

    Channels that a sum of branches joins go together, see `models.channels`. What is left of a
    group is rounded, to a multiple of 8 from 16 on.

    Args:
      trained: a classifier.
      share: of the channels that go, above 0 and below 1.
      importance: "l1", "l2": of a channel's kernels, each over their mean in the layer (Li et al.
        2017, https://arxiv.org/abs/1608.08710); "scale": of BatchNorm's scales (Liu et al. 2017,
        https://arxiv.org/abs/1708.06519).
      scope: "layer": the share of each group; "global": of all, where they matter least.

    Raises:
      ConfigError: for a network that has none to remove, that knows no model.channels, or whose
        channels have no such importance.
    """
    config, size = trained.config, trained.config.data.image_size
    groups = channel_groups(trained.model, size)
    if not groups or config.model.head:
        raise ConfigError(
            f"--structure=channels is for classifiers, and {trained.name} has no channels that "
            "could be removed; take weights or N:M"
        )
    scores = [_importance(group, trained.variables, importance, trained.name) for group in groups]
    for multiple in _MULTIPLES:
        smaller = _smaller(trained, groups, _chosen(groups, scores, share, scope, multiple))
        after = channel_groups(smaller.model, size)
        if {group.members for group in groups} == {group.members for group in after}:
            return smaller
    raise ConfigError(
        f"with so many channels left {trained.name} would be another network: blocks that have no "
        "shortcut would get one, as they would give as many as they get; take another --prune"
    )


def _smaller(
    trained: TrainedModel, groups: Sequence[Group], kept: Sequence[np.ndarray]
) -> TrainedModel:
    """The model of the channels that are left."""
    config = trained.config.copy_and_resolve_references()
    variables = _cut(trained.variables, groups, kept)
    counts = dict(entry.rsplit("=", 1) for entry in config.model.channels)
    for group, channels in zip(groups, kept, strict=True):
        counts |= {
            layer: str(len(channels)) for layer in group.layers if len(channels) < group.size
        }
    config.model.channels = tuple(f"{layer}={count}" for layer, count in counts.items())
    config.model.channels = _completed(trained, config, variables)
    task = dataclasses.replace(trained.task, config=config)
    return dataclasses.replace(trained, model=task.model(), variables=variables, task=task)


def _importance(group: Group, variables: Mapping[str, Any], kind: str, name: str) -> np.ndarray:
    """Of each channel of a group, float [size]."""
    found = []
    for member in group.members:
        array = np.abs(np.asarray(_leaf(variables, member.path), np.float64))
        if kind == "scale" and member.path[-1] == "scale":
            found.append(array)
        made = member.path[-1] == "kernel" and member.axis == array.ndim - 1
        if kind != "scale" and made:
            axes = tuple(range(array.ndim - 1))
            norm = array.sum(axes) if kind == "l1" else np.sqrt((array**2).sum(axes))
            found.append(norm / max(norm.mean(), 1e-12))
    if not found:
        raise ConfigError(
            f"--importance=scale is that of BatchNorm, and {', '.join(group.layers)} of {name} has "
            "none behind it; take l1 or l2"
        )
    return np.mean(found, 0)


def _chosen(
    groups: Sequence[Group],
    scores: Sequence[np.ndarray],
    share: float,
    scope: str,
    multiple: int,
) -> list[np.ndarray]:
    """The channels of each group that are left, in order."""
    sizes = np.array([group.size for group in groups])
    left = sizes * (1 - share)
    if scope == "global":
        everything = np.sort(np.concatenate(scores))
        threshold = everything[min(round(share * len(everything)), len(everything) - 1)]
        left = np.array([(score >= threshold).sum() for score in scores])
    left = np.maximum(left, _LEAST * sizes)
    rounded = np.where(left < _FROM, np.round(left), np.round(left / multiple) * multiple)
    counts = np.clip(rounded, 1, sizes).astype(int)
    best = (np.argsort(-score, kind="stable") for score in scores)
    return [np.sort(order[:count]) for order, count in zip(best, counts, strict=True)]


def _cut(
    variables: Mapping[str, Any], groups: Sequence[Group], kept: Sequence[np.ndarray]
) -> dict[str, Any]:
    """The variables of what is left, NumPy arrays."""
    cut = jax.tree.map(np.asarray, dict(variables))
    for group, channels in zip(groups, kept, strict=True):
        for member in group.members:
            *way, last = member.path
            place = cut
            for name in way:
                place = place[name]
            entries = channels[:, None] * member.repeat + np.arange(member.repeat)
            place[last] = np.take(place[last], entries.ravel(), member.axis)
    return cut


def _completed(trained: TrainedModel, config: Any, variables: Mapping[str, Any]) -> tuple[str, ...]:
    """config.model.channels with the layers whose own number follows from another layer's.

    Raises:
      ConfigError: if no numbers make a network of these variables.
    """
    channels, size = tuple(config.model.channels), config.data.image_size
    want = _shapes(variables)
    for _ in range(3):
        config.model.channels = channels
        task = dataclasses.replace(trained.task, config=config)
        have = _shapes(variable_shapes(task.model(), size))
        if have == want:
            return channels
        more = [
            f"{'/'.join(path[1:-1])}={shape[-1]}"
            for path, shape in want.items()
            if path[-1] == "kernel" and path in have and have[path][-1] != shape[-1]
        ]
        channels += tuple(more)
    wrong = [path for path in {**have, **want} if have.get(path) != want.get(path)]
    raise ConfigError(
        f"config.model.channels cannot say what is left of {trained.name}: "
        f"{'/'.join(wrong[0])} is {have.get(wrong[0])} and not {want.get(wrong[0])}"
    )


def _shapes(variables: Mapping[str, Any]) -> dict[tuple[str, ...], tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(dict(variables))
    return {tuple(key.key for key in path): tuple(leaf.shape) for path, leaf in leaves}


def _leaf(variables: Mapping[str, Any], path: Sequence[str]) -> Any:
    for name in path:
        variables = variables[name]
    return variables

"""Depth pruning: a shallower network, of the blocks that change most of what they are given."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.deploy.export import resized_samples
from imagenet_jax.deploy.program import program_of
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.models.blocks import left_without, seen_blocks
from imagenet_jax.tasks.table import task_split
from imagenet_jax.terminal import say, working
from imagenet_jax.training.trained import TrainedModel

_IMAGES, _AT_ONCE = 128, 16  # on which blocks are measured; at once


def without_blocks(trained: TrainedModel, share: float) -> TrainedModel:
    """The model without a share of its residual blocks; config.model.without_blocks names them.

    Those go that change least of what they are given, see `block_influence`; what is left keeps
    its names and its weights.

    Args:
      trained: a model of a network with residual blocks.
      share: of the blocks that could go, above 0 and below 1; their number is rounded.

    Raises:
      ConfigError: for a network that has no such blocks, or a share that is none of them.
    """
    images, what = _images(trained)
    with working(f"measuring what blocks change of {len(images)} images: {what}"):
        influence = block_influence(trained, images)
    count = int(share * len(influence) + 0.5)
    if not count:
        raise ConfigError(
            f"--prune={share:g} with --structure=blocks is none of the {len(influence)} blocks "
            f"that {trained.name} could do without"
            + f"; take {0.5 / len(influence):.2g} or more"
            * bool(influence)
        )
    gone = sorted(influence, key=influence.__getitem__)[:count]
    gone = [name for name in influence if name in gone]
    say(f"without {', '.join(gone)}: {count} of {len(influence)} blocks that could go")
    return _without(trained, gone)


def block_influence(trained: TrainedModel, images: np.ndarray) -> dict[str, float]:
    """How much each block that could go changes of what it is given, in the order of computation.

    It is 1 - the cosine between the channels of its input and those of its output, the mean over
    places and images: the block influence of Men et al. 2024 (https://arxiv.org/abs/2403.03853).

    Args:
      trained: the model.
      images: uint8 [N, S, S, 3], S being config.data.image_size.
    """
    config = trained.config.copy_and_resolve_references()
    config.model.update(remat=False, scan=False)  # else blocks run where nothing can be kept
    task = dataclasses.replace(trained.task, config=config)
    run = program_of(dataclasses.replace(trained, model=task.model(), task=task))
    names: list[str] = []

    def measured(variables: dict, images: jax.Array) -> list[jax.Array]:
        found: dict[str, jax.Array] = {}
        with seen_blocks(lambda name, x, y: found.update({name: _change(x, y)})):
            run(variables, images)
        names[:] = found
        return list(found.values())

    variables, compiled = jax.tree.map(jnp.asarray, trained.variables), jax.jit(measured)
    parts = [
        np.asarray(compiled(variables, images[start : start + _AT_ONCE]), np.float64)
        for start in range(0, len(images), _AT_ONCE)
    ]
    return dict(zip(names, np.sum(parts, 0) / len(images), strict=True))


def _change(x: jax.Array, y: jax.Array) -> jax.Array:
    """Summed over images, of maps [B, h, w, C] or tokens [B, T, C]."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    lengths = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
    cosine = (x * y).sum(-1) / jnp.maximum(lengths, 1e-12)
    return (1 - cosine).reshape(len(x), -1).mean(1).sum()


def _without(trained: TrainedModel, gone: Sequence[str]) -> TrainedModel:
    config = trained.config.copy_and_resolve_references()
    config.model.without_blocks = (*config.model.without_blocks, *gone)
    config.model.channels = tuple(
        entry for entry in config.model.channels if entry.partition("/")[0] not in gone
    )
    task = dataclasses.replace(trained.task, config=config)
    variables = left_without(trained.variables, gone)
    return dataclasses.replace(trained, model=task.model(), variables=variables, task=task)


def _images(trained: TrainedModel) -> tuple[np.ndarray, str]:
    """Images uint8 [N, S, S, 3] from all over the training split, and what they are.

    Where that is not here, they are of the evaluation split, or the photos that come with
    scikit-learn.
    """
    for train in (True, False):
        try:
            split = task_split(trained.config, train)
        except DataError:
            continue
        count = min(_IMAGES, split.num_examples)
        places = np.linspace(0, split.num_examples - 1, count).astype(int)
        return split.images(places), f"{trained.config.data.name}, {split.name}"
    return resized_samples(trained.config), "the photos that come with scikit-learn"

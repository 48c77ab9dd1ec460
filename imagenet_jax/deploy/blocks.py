"""Depth pruning: a shallower network, without the blocks that its outputs depend on least."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.module import InterceptorContext

from imagenet_jax.deploy.program import with_network
from imagenet_jax.deploy.quantization import calibration_images
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.blocks import each_block, left_without, removable_blocks
from imagenet_jax.terminal import counting, say
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.weights.adapt import BACKBONE

_IMAGES, _AT_ONCE = 64, 16  # on which blocks are measured; at once


def without_blocks(trained: TrainedModel, share: float) -> TrainedModel:
    """The model without a share of its residual blocks; config.model.without_blocks names them.

    Those go that matter least, see `block_importance`; what is left keeps its names and weights.

    Args:
      trained: a model of a network with residual blocks.
      share: of the blocks that could go, above 0 and below 1; their number is rounded.

    Raises:
      ConfigError: for a network that has no such blocks, or a share that is none of them.
    """
    names = removable_blocks(trained.model, trained.config.data.image_size)
    count = int(share * len(names) + 0.5)
    if not count:
        hint = f"; take {0.5 / len(names):.2g} or more" if names else ""
        raise ConfigError(
            f"--prune={share:g} with --structure=blocks is none of the {len(names)} blocks that "
            f"{trained.name} could do without{hint}"
        )
    images, about = calibration_images(trained, _IMAGES)
    say(f"blocks are left out one at a time, on {about}")
    importance = block_importance(trained, images)
    least = sorted(names, key=importance.__getitem__)[:count]
    gone = [name for name in names if name in least]
    say(f"without {', '.join(gone)}: {count} of {len(names)} blocks that could go")
    return _without(trained, gone)


def block_importance(trained: TrainedModel, images: np.ndarray) -> dict[str, float]:
    """How far the outputs move when each block that could go is left out, by its name.

    It is the squared distance over the squared length, of the logits of all images; with a head of
    another kind that of what its backbone gives, the mean over maps. It needs no labels.

    Args:
      trained: the model.
      images: uint8 [N, S, S, 3], S being config.data.image_size.
    """
    plain = {"remat": False, "scan": False}  # else blocks run where they cannot be reached
    trained = with_network(trained, **plain)
    model, task = trained.model, trained.task
    names = removable_blocks(model, trained.config.data.image_size)

    @jax.jit
    def outputs(variables: dict[str, Any], images: jax.Array, left_out: jax.Array) -> Any:
        def change(name: str, x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.where(left_out == names.index(name), x, y)

        with each_block(change):
            return _outputs(model, variables, task.image_inputs(images))

    variables, sums = jax.tree.map(jnp.asarray, trained.variables), 0.0
    parts = [images[start : start + _AT_ONCE] for start in range(0, len(images), _AT_ONCE)]
    with counting("leaving out blocks", len(images) * len(names)) as done:
        for part in parts:
            whole, found = outputs(variables, part, -1), []
            for index in range(len(names)):
                found.append(_distances(whole, outputs(variables, part, index)))
                done(len(part))
            sums += np.array(found, np.float64)  # [blocks, arrays, 2]
    ratios = sums[..., 0] / np.maximum(sums[..., 1], 1e-30)
    return dict(zip(names, ratios.mean(-1).tolist(), strict=True))


@jax.jit
def _distances(whole: Any, other: Any) -> jax.Array:
    """The squared distance of each pair of arrays, and the squared length of the first [n, 2]."""
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True)
    return jnp.array([(jnp.square(a - b).sum(), jnp.square(a).sum()) for a, b in pairs])


def _outputs(model: nn.Module, variables: dict[str, Any], inputs: jax.Array) -> Any:
    """What the network, or its module called "backbone", gives; float32."""
    found: list[Any] = []

    def keep(run: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        y = run(*args, **kwargs)
        if context.module.path == (BACKBONE,) and context.method_name == "__call__":
            found.append(y)
        return y

    with nn.intercept_methods(keep):
        logits = model.apply(variables, inputs, train=False)
    return jax.tree.map(lambda array: array.astype(jnp.float32), found or logits)


def _without(trained: TrainedModel, gone: Sequence[str]) -> TrainedModel:
    model = trained.config.model
    channels = tuple(entry for entry in model.channels if entry.partition("/")[0] not in gone)
    without = (*model.without_blocks, *gone)
    found = with_network(trained, without_blocks=without, channels=channels)
    return dataclasses.replace(found, variables=left_without(trained.variables, gone))

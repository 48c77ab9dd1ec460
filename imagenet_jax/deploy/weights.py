"""Weights of a trained model that become zero at once."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.training.pruning import check_prunable, last_share, masks_of, prunable
from imagenet_jax.training.trained import TrainedModel
from imagenet_jax.training.tuning import find_layers


def without_weights(trained: TrainedModel, config: ml_collections.ConfigDict) -> TrainedModel:
    """The model with zeros where config.prune has no weights left; its config is that one.

    Raises:
      ConfigError: if there is nothing to prune.
    """
    prune, params = config.prune, jax.tree.map(jnp.asarray, trained.variables["params"])
    layers = find_layers(trained.model, config.data.image_size)
    check_prunable(config, params, layers, config.model.name)
    chosen = prunable(prune, params, layers)
    whole = jax.tree.map(
        lambda is_pruned, p: jnp.ones(p.shape, bool) if is_pruned else None, chosen, params
    )
    masks = jax.jit(masks_of(prune))(params, whole, jnp.float32(last_share(prune)))
    params = jax.tree.map(
        lambda mask, p: np.asarray(p if mask is None else jnp.where(mask, p, 0)),
        *(masks, params),
        is_leaf=lambda leaf: leaf is None,
    )
    task = dataclasses.replace(trained.task, config=config)
    return dataclasses.replace(
        trained, model=task.model(), variables={**trained.variables, "params": params}, task=task
    )

"""The two functions that everything else exists to compile: train_step and eval_step.

Both are pure. They see either the whole global batch (under jit) or, with `axis_name`, one
device's share of it (under shard_map and pmap); the numbers are the same.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from imagenet_jax import augment
from imagenet_jax.devices import parallel
from imagenet_jax.tasks import losses, metrics
from imagenet_jax.training.state import TrainState
from imagenet_jax.training.tuning import WHOLE, Tuning

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    tuning: Tuning = WHOLE,
    gather: Callable[[Any], Any] = lambda params: params,
    axis_name: str | None = None,
) -> tuple[TrainState, Sums]:
    """One update of the trained parameters.

    Args:
      state: the state; replicated, or spread as `sharding.shard_shapes` says.
      batch: see `data.Split`; leading axis B, divisible by config.accumulate.
      model, optimizer, config, tuning, gather: static; see `sharding.gather_params`.
      axis_name: mapped axis over which the batch is spread, if this is a device's share.

    Returns:
      The new state, and `metrics.classification_sums` over the global batch.
    """

    def over_devices(tree: Any) -> Any:
        return parallel.all_reduce(tree, axis_name) if axis_name else tree

    rng = jax.random.wrap_key_data(state.rng)
    count = jnp.maximum(over_devices(batch["mask"].sum()), 1)
    trained, frozen = tuning.split(state.params)

    def loss_fn(trained: Any, batch_stats: Any, part: Batch, key: jax.Array) -> tuple[Any, Any]:
        params = tuning.merge_lora(gather(tuning.join(trained, frozen)))
        with jax.named_scope("augment"):
            image, targets = augment.train_inputs(part, rng, state.step, config.augment)
        logits, auxiliary, batch_stats = _forward(
            model, {"params": params, "batch_stats": batch_stats}, image, key, tuning
        )
        smoothing = config.loss.label_smoothing
        loss = losses.mixed_cross_entropy(logits, targets, smoothing)
        sums = metrics.classification_sums(logits, targets.dominant(), loss, part["mask"])
        for head in auxiliary:
            extra = losses.mixed_cross_entropy(head, targets, smoothing)
            loss += config.loss.auxiliary * extra
        return jnp.where(part["mask"], loss, 0).sum() / count, (batch_stats, sums)

    key = jax.random.fold_in(rng, state.step)
    gradient, batch_stats, sums = _accumulated(
        jax.grad(loss_fn, has_aux=True), trained, state.batch_stats, batch, key, config
    )
    gradient, sums, batch_stats = over_devices((gradient, sums, batch_stats))
    if axis_name:
        batch_stats = jax.tree.map(lambda x: x / jax.lax.axis_size(axis_name), batch_stats)

    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
        params = tuning.join(optax.apply_updates(trained, updates), frozen)
        ema = _averaged(state, params, batch_stats, config.ema_decay)
    state = state.replace(
        step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    return state, sums


def _accumulated(
    grad_fn: Callable[..., Any],
    trained: Any,
    batch_stats: Any,
    batch: Batch,
    key: jax.Array,
    config: ml_collections.ConfigDict,
) -> tuple[Any, Any, Sums]:
    """Gradient and sums over the micro-batches, and the last running statistics."""

    def add_part(carry: tuple[Any, Any, Sums], part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        gradient, batch_stats, sums = carry
        part_gradient, (batch_stats, part_sums) = grad_fn(trained, batch_stats, *part)
        gradient, sums = jax.tree.map(jnp.add, (gradient, sums), (part_gradient, part_sums))
        return (gradient, batch_stats, sums), None

    carry = (jax.tree.map(jnp.zeros_like, trained), batch_stats, metrics.zero_sums())
    if config.accumulate == 1:
        return add_part(carry, (batch, key))[0]
    keys = jax.random.split(key, config.accumulate)
    return jax.lax.scan(add_part, carry, (micro_batches(batch, config), keys))[0]


def _forward(
    model: nn.Module, variables: dict[str, Any], image: jax.Array, key: jax.Array, tuning: Tuning
) -> tuple[jax.Array, list[jax.Array], Any]:
    """Logits, the logits of auxiliary heads, and the new running statistics, in training."""
    logits, updated = model.apply(
        variables,
        image,
        train=tuning.trains_backbone,
        mutable=["batch_stats", "auxiliary"],
        rngs={"dropout": key},
    )
    return logits, jax.tree.leaves(updated.get("auxiliary", {})), updated.get("batch_stats", {})


def eval_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    model: nn.Module,
    config: ml_collections.ConfigDict,
    tuning: Tuning = WHOLE,
    gather: Callable[[Any], Any] = lambda params: params,
    axis_name: str | None = None,
) -> Sums:
    """`metrics.classification_sums` of the global batch, with the plain cross-entropy."""
    variables = {**variables, "params": tuning.merge_lora(gather(variables["params"]))}
    logits = model.apply(variables, augment.eval_image(batch, config.augment), train=False)
    loss = losses.cross_entropy(logits, batch["label"])
    sums = metrics.classification_sums(logits, batch["label"], loss, batch["mask"])
    return jax.lax.psum(sums, axis_name) if axis_name else sums


def micro_batches(batch: Batch, config: ml_collections.ConfigDict) -> Batch:
    """[B, ...] to [config.accumulate, B / config.accumulate, ...].

    Micro-batch k holds every accumulate-th row from k on (pair of rows, where images are
    mixed), so that no row leaves its device.
    """
    count, unit = config.accumulate, 2 if augment.is_mixing(config.augment) else 1

    def split(array: jax.Array) -> jax.Array:
        parts = jnp.moveaxis(array.reshape(-1, count, unit, *array.shape[1:]), 1, 0)
        return parts.reshape(count, -1, *array.shape[1:])

    return jax.tree.map(split, batch)


def _averaged(state: TrainState, params: Any, batch_stats: Any, decay: float) -> Any:
    """The exponential average; its decay starts at 0.1 and grows to `decay` as in TensorFlow."""
    if state.ema is None:
        return None
    decay = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    new = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema, new)

"""The two functions that everything else exists to compile: train_step and eval_step.

Both are pure. They see either the whole global batch (under jit) or, with `axis_name`, one
device's share of it (under shard_map and pmap); the numbers are the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from imagenet_jax.devices import parallel
from imagenet_jax.tasks.task import Batch, Outcome, Sums, Task
from imagenet_jax.training.averages import moved_average
from imagenet_jax.training.guard import guarded
from imagenet_jax.training.optimizers.prune import masked
from imagenet_jax.training.optimizers.schedule_free import averaged
from imagenet_jax.training.state import TrainState
from imagenet_jax.training.teacher import Teacher
from imagenet_jax.training.tuning import WHOLE, Tuning


def train_step(
    state: TrainState,
    batch: Batch,
    teacher_variables: Any = None,
    *,
    task: Task,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    teacher: Teacher | None = None,
    tuning: Tuning = WHOLE,
    gather: Callable[[Any], Any] = lambda params: params,
    average_start: int = 0,
    average_course: tuple[float, float] = (0, 1),
    axis_name: str | None = None,
) -> tuple[TrainState, Sums]:
    """One update of the trained parameters.

    Args:
      state: the state; replicated, or spread as `sharding.shard_shapes` says.
      batch: see `data.Split`; leading axis B, divisible by task.config.accumulate.
      teacher_variables: the variables of the teacher, if there is one; they stay as they are.
      task, model, optimizer, teacher, tuning, gather: static; see `Task`, `Teacher` and
        `sharding.gather_params`.
      average_start, average_course: see `moved_average`; static.
      axis_name: mapped axis over which the batch is spread, if this is a device's share.

    Returns:
      The new state, and `Task.sums` over the global batch, with the facts of `guard.guarded`.
    """
    rng = jax.random.wrap_key_data(state.rng)
    denominators = _denominators(task, batch, rng, axis_name)
    trained, frozen = tuning.split(state.params)
    step = state.step + round(average_course[0])  # as if all had been of today's size

    def loss_fn(trained: Any, batch_stats: Any, part: Batch, key: jax.Array) -> tuple[Any, Any]:
        params = tuning.merge_lora(gather(tuning.join(trained, frozen)))
        with jax.named_scope("augment"):
            inputs, targets = task.inputs(part, rng, step, train=True)
        variables = {"params": params, "batch_stats": batch_stats}
        collections = ("batch_stats", "auxiliary", *(["distillation"] if teacher else []))
        apply = partial(apply_in_training, model, variables, key, tuning, collections=collections)
        average = partial(_apply_average, model, state.ema, gather, key)
        outcome = task.losses_beside(average, apply, inputs, targets)
        if teacher:
            outcome = _distilled(outcome, inputs, task, teacher, gather(teacher_variables))
        mask = task.kept(part["mask"])
        sums = task.sums(outcome, targets, mask)
        loss = _total(outcome, task, mask, denominators)
        return loss, (outcome.updated.get("batch_stats", {}), sums)

    def loss_alone(point: Any, *rest: Any) -> tuple[Any, Any]:
        return point, loss_fn(point, *rest)[1]

    key = jax.random.fold_in(rng, state.step)
    grad_fn = jax.grad(loss_fn, has_aux=True)
    pass_at = partial(_pass, state.batch_stats, batch, key, task, axis_name)
    gradient, batch_stats, sums = pass_at(grad_fn, trained)
    gradient = masked(state.opt_state, gradient)
    if task.config.optim.sam:
        nearby = partial(pass_at, grad_fn)
        gradient = _of_the_worst_nearby(nearby, trained, gradient, state.step, task.config)

    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
        new = optax.apply_updates(trained, updates)
        params, evaluated = tuning.join(new, frozen), averaged(opt_state, new)
        if batch_stats and evaluated is not new:  # the statistics are to be those of this point
            _, batch_stats, _ = pass_at(loss_alone, evaluated)
        span = average_start, average_course
        ema = moved_average(state, params, batch_stats, task.config, *span)
        if ema is not None:  # what is pruned now has been something else on the way
            ema = {**ema, "params": masked(opt_state, ema["params"])}
    after = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema)
    after, facts = guarded(task.config, state, after, gradient, updates, sums["loss"])
    return after.replace(step=state.step + 1), sums | facts


def _denominators(
    task: Task, batch: Batch, rng: jax.Array, axis_name: str | None
) -> dict[str, jax.Array]:
    """`Task.denominators` of the global batch; 1 where there is nothing to divide."""
    found = task.denominators(batch, rng)
    if axis_name:
        found = parallel.all_reduce(found, axis_name)
    return jax.tree.map(lambda total: jnp.where(total > 0, total, 1), found)


def _distilled(
    outcome: Outcome, inputs: Any, task: Task, teacher: Teacher, variables: Any
) -> Outcome:
    """With what the teacher makes of the same inputs."""
    with jax.named_scope("teacher"):
        outputs = teacher.outputs(variables, inputs, task.config.augment)
    return task.distilled(outcome, outputs)


def _apply_average(
    model: nn.Module, average: Any, gather: Callable[[Any], Any], key: jax.Array, inputs: Any
) -> Any:
    """What the averaged weights make of inputs, in training mode; no gradient comes back."""
    variables = {**average, "params": gather(average["params"])}
    own = jax.random.fold_in(key, 1)  # what is dropped is not what the network itself drops
    with jax.named_scope("teacher"):
        outputs, _ = apply_in_training(model, variables, own, WHOLE, inputs, ["batch_stats"])
    return jax.lax.stop_gradient(outputs)


def _pass(
    batch_stats: Any,
    batch: Batch,
    key: jax.Array,
    task: Task,
    axis_name: str | None,
    grad_fn: Callable[..., Any],
    trained: Any,
) -> tuple[Any, Any, Sums]:
    """`_accumulated` over the global batch."""
    found = _accumulated(grad_fn, trained, batch_stats, batch, key, task)
    if not axis_name:
        return found
    gradient, batch_stats, sums = found
    gradient, sums, batch_stats = parallel.all_reduce((gradient, sums, batch_stats), axis_name)
    batch_stats = jax.tree.map(lambda x: x / jax.lax.axis_size(axis_name), batch_stats)
    return gradient, batch_stats, sums


def _of_the_worst_nearby(
    pass_at: Callable[[Any], tuple[Any, Any, Sums]],
    trained: Any,
    gradient: Any,
    step: jax.Array,
    config: ml_collections.ConfigDict,
) -> Any:
    """The gradient where, at the distance optim.sam, the loss is about highest.

    Sharpness-aware minimization, Foret et al. 2020, https://arxiv.org/abs/2010.01412. Nothing
    else is taken of that pass: no statistics and no sums. At the steps between those of
    optim.sam_every, the plain gradient.
    """

    optim = config.optim

    @jax.named_scope("sharpness")
    def ascend(gradient: Any) -> Any:
        length = optax.tree.norm(gradient)
        scale = optim.sam / jnp.where(length > 0, length, 1)
        return pass_at(jax.tree.map(lambda p, g: p + scale * g, trained, gradient))[0]

    if optim.sam_every == 1:
        return ascend(gradient)
    return jax.lax.cond(step % optim.sam_every == 0, ascend, lambda plain: plain, gradient)


def _accumulated(
    grad_fn: Callable[..., Any],
    trained: Any,
    batch_stats: Any,
    batch: Batch,
    key: jax.Array,
    task: Task,
) -> tuple[Any, Any, Sums]:
    """Gradient and sums over the micro-batches, and the last running statistics."""

    def add_part(carry: tuple[Any, Any, Sums], part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        gradient, batch_stats, sums = carry
        part_gradient, (batch_stats, part_sums) = grad_fn(trained, batch_stats, *part)
        gradient, sums = jax.tree.map(jnp.add, (gradient, sums), (part_gradient, part_sums))
        return (gradient, batch_stats, sums), None

    carry = (jax.tree.map(jnp.zeros_like, trained), batch_stats, task.zero_sums())
    count = task.config.accumulate
    if count == 1:
        return add_part(carry, (batch, key))[0]
    parts = micro_batches(batch, count, task.rows_together), jax.random.split(key, count)
    return jax.lax.scan(add_part, carry, parts)[0]


def apply_in_training(
    model: nn.Module,
    variables: dict[str, Any],
    key: jax.Array,
    tuning: Tuning,
    inputs: Any,
    collections: Sequence[str] = ("batch_stats", "auxiliary"),
) -> tuple[Any, dict[str, Any]]:
    """Outputs of the network in training, and the collections of these that it updated."""
    return model.apply(
        variables,
        inputs,
        train=tuning.trains_backbone,
        mutable=list(collections),
        rngs={"dropout": key},
    )


def _total(
    outcome: Outcome, task: Task, mask: jax.Array, denominators: dict[str, jax.Array]
) -> jax.Array:
    """This device's and micro-batch's share of the loss, [].

    Numerators are weighted before they are added up: so their gradients round as one sum's.
    """
    terms, total = task.terms(), jnp.zeros(())
    for name, numerator in outcome.numerators.items():
        weighted = terms[name].weight * numerator
        total += jnp.where(mask, weighted, 0).sum() / denominators[terms[name].over]
    return total


def eval_step(
    variables: dict[str, Any],
    batch: Batch,
    *,
    task: Task,
    model: nn.Module,
    tuning: Tuning = WHOLE,
    gather: Callable[[Any], Any] = lambda params: params,
    axis_name: str | None = None,
) -> tuple[Sums, Batch]:
    """`Task.evaluation_sums` of the global batch, and what a `Task.meter` is given of it: what
    `Task.observe` makes of each example, with mask and index."""
    variables = {**variables, "params": tuning.merge_lora(gather(variables["params"]))}
    inputs, targets = task.inputs(batch, None, None, train=False)
    predictions = task.predict(partial(model.apply, variables, train=False), inputs)
    sums = task.evaluation_sums(predictions, targets, batch["mask"])
    observed = task.observe(predictions, targets)
    if observed:
        observed |= {"mask": batch["mask"], "index": batch["index"]}
    if axis_name:
        gather_rows = partial(jax.lax.all_gather, axis_name=axis_name, tiled=True)
        sums, observed = jax.lax.psum(sums, axis_name), jax.tree.map(gather_rows, observed)
    return sums, observed


def micro_batches(batch: Batch, count: int, unit: int) -> Batch:
    """[B, ...] to [count, B / count, ...].

    Micro-batch k holds every count-th group of `unit` rows from group k on, so that no row leaves
    its device, and rows that are mixed with each other stay together.
    """

    def split(array: jax.Array) -> jax.Array:
        parts = jnp.moveaxis(array.reshape(-1, count, unit, *array.shape[1:]), 1, 0)
        return parts.reshape(count, -1, *array.shape[1:])

    return jax.tree.map(split, batch)

"""Pruning: weights of small magnitude become zero while a network is trained, and stay so."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# (parameters, masks so far, share) to masks; None where a parameter is left whole.
Masks = Callable[[Any, Any, jax.Array], Any]


class PruneState(NamedTuple):
    """What is kept beside the parameters.

    Attributes:
      count: updates done; of Optax's type by which schedules go on where an update is skipped.
      share: of the weights that the masks have pruned, float32 scalar.
      masks: True for weights that are left, bool of the parameter's shape; None for a parameter
        that is never pruned.
      inner: state of the optimizer.
    """

    count: optax.ScaleByScheduleState
    share: jax.Array
    masks: Any
    inner: Any


def pruned(
    inner: optax.GradientTransformation,
    prunable: Callable[[Any], Any],
    masks: Masks,
    target: Callable[[jax.Array], jax.Array],
) -> optax.GradientTransformation:
    """An optimizer of what is left of the weights (Zhu & Gupta 2017, arxiv.org/abs/1710.01878).

    Where a mask is False the gradient counts as zero, whatever `inner` makes of it, and the
    update is the parameter's negative, so that their sum is 0 to the bit. Masks are found from the
    parameters before the update, and what was pruned once stays so.

    Args:
      inner: the optimizer; its updates have the rate in them.
      prunable: tells of parameters which are pruned, a tree of bools.
      masks: see `by_magnitude` and `by_pattern`.
      target: share of the weights that is to be pruned after so many updates; it never falls.
    """

    def init(params: Any) -> PruneState:
        whole = jax.tree.map(
            lambda chosen, leaf: jnp.ones(leaf.shape, bool) if chosen else None,
            *(prunable(params), params),
        )
        count = optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
        return PruneState(count, jnp.zeros((), jnp.float32), whole, inner.init(params))

    def update(updates: Any, state: PruneState, params: Any) -> tuple[Any, PruneState]:
        count = state.count.count
        share = jnp.maximum(state.share, target(count))
        kept = jax.lax.cond(
            share > state.share,
            lambda: masks(params, state.masks, share),
            lambda: state.masks,
        )
        updates, inner_state = inner.update(_masked(kept, updates), state.inner, params)
        updates = _where(kept, updates, lambda update, param: -param, params)
        count = optax.ScaleByScheduleState(count + 1)
        return updates, PruneState(count, share, kept, inner_state)

    return optax.GradientTransformation(init, update)


def masked(opt_state: Any, tree: Any) -> Any:
    """Zero where weights are pruned; the tree as it is with an optimizer that prunes none.

    Args:
      opt_state: of an optimizer in which a `pruned` may be.
      tree: of the parameters, of their gradient or of an average of them; None where there is none.
    """
    state = prune_state(opt_state)
    return tree if state is None else _masked(state.masks, tree)


def prune_state(opt_state: Any) -> PruneState | None:
    """That of `pruned` in an optimizer's; None where there is none."""
    states = jax.tree.leaves(opt_state, is_leaf=_is_state)
    return next((state for state in states if _is_state(state)), None)


def _is_state(tree: Any) -> bool:
    return isinstance(tree, PruneState)


def _masked(masks: Any, tree: Any) -> Any:
    return _where(masks, tree, lambda leaf: jnp.zeros_like(leaf))


def _where(masks: Any, tree: Any, other: Callable[..., Any], *more: Any) -> Any:
    """The tree where masks are True, else `other` of its leaves and those of `more`."""
    return jax.tree.map(
        lambda mask, leaf, *rest: (
            leaf if mask is None else jnp.where(mask, leaf, other(leaf, *rest))
        ),
        *(masks, tree, *more),
        is_leaf=lambda leaf: leaf is None,
    )


def by_magnitude(last: float, scope: str) -> Masks:
    """Masks without the weights of the smallest magnitude.

    Weights of the same magnitude as the largest of these go with them.

    Args:
      last: the share at the end, which is met to the weight.
      scope: what the share is of, "global": all kernels together; "layer": each of them.
    """

    def masks(params: Any, old: Any, share: jax.Array) -> Any:
        leaves, structure = jax.tree.flatten(old)
        arrays = [
            # What is pruned already comes first, whatever else is zero.
            jnp.where(mask, jnp.abs(leaf).astype(jnp.float32), -1.0)
            for mask, leaf in zip(leaves, _those_of(old, params), strict=True)
        ]
        groups = [arrays] if scope == "global" else [[array] for array in arrays]
        found = [mask for group in groups for mask in _larger(group, share, last)]
        return jax.tree.unflatten(structure, found)

    return masks


def _those_of(masks: Any, params: Any) -> list[jax.Array]:
    """The parameters that have a mask."""
    chosen = jax.tree.map(
        lambda mask, leaf: None if mask is None else leaf,
        *(masks, params),
        is_leaf=lambda leaf: leaf is None,
    )
    return jax.tree.leaves(chosen)


def _larger(arrays: Sequence[jax.Array], share: jax.Array, last: float) -> list[jax.Array]:
    """Which entries are not among the smallest, which are a share of all, bool of each array."""
    size = sum(array.size for array in arrays)
    count = jnp.where(
        share >= jnp.float32(last), round(last * size), (share * size).astype(jnp.int32)
    )
    threshold = _smallest(arrays, count)
    return [array > threshold for array in arrays]


def _smallest(arrays: Sequence[jax.Array], count: jax.Array) -> jax.Array:
    """The `count`-th smallest of all entries, float32, -1 or not negative; -1 for none.

    By halving the range of their bits, which are in the order of the numbers: counts are added up
    over devices, and nothing is sorted or gathered.
    """
    bits = [jax.lax.bitcast_convert_type(array, jnp.int32) for array in arrays]

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        enough = sum(jnp.sum(of <= middle, dtype=jnp.int32) for of in bits) >= count
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    infinite = jnp.int32(0x7F800000)
    _, found = jax.lax.fori_loop(0, 32, halve, (jnp.int32(0), infinite))
    return jnp.where(count > 0, jax.lax.bitcast_convert_type(found, jnp.float32), -1.0)


def by_pattern(group: int) -> Masks:
    """Masks without the smallest of each `group` weights along the input channels.

    At a share s each group has lost s * group of them, rounded down: at 0.5 of 4 it is 2:4 (Mishra
    et al. 2021, https://arxiv.org/abs/2104.08378). The input channels of a kernel [..., I, O] have
    to be a multiple of `group`, see `takes_pattern`.
    """

    def masks(params: Any, old: Any, share: jax.Array) -> Any:
        lost = jnp.floor(share * group + 1e-3)
        leaves, structure = jax.tree.flatten(old)
        found = map(partial(_largest, lost=lost, group=group), leaves, _those_of(old, params))
        return jax.tree.unflatten(structure, list(found))

    return masks


def takes_pattern(shape: Sequence[int], group: int) -> bool:
    """Whether the input channels of a kernel [..., I, O] are whole groups."""
    return len(shape) > 1 and shape[-2] % group == 0


def _largest(mask: jax.Array, kernel: jax.Array, *, lost: jax.Array, group: int) -> jax.Array:
    *places, inputs, outputs = kernel.shape
    size = jnp.where(mask, jnp.abs(kernel).astype(jnp.float32), -1.0)
    size = size.reshape(*places, inputs // group, group, outputs)
    rank = jnp.argsort(jnp.argsort(size, -2, stable=True), -2)
    return (rank >= lost).reshape(kernel.shape)

"""What config.prune means for a run: which weights become zero, and when."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from imagenet_jax.config.prune_fields import parse_pattern
from imagenet_jax.errors import ConfigError
from imagenet_jax.terminal import say
from imagenet_jax.training.optimizers.prune import (
    Masks,
    by_magnitude,
    by_pattern,
    prune_state,
    pruned,
    takes_pattern,
)
from imagenet_jax.training.position import Course
from imagenet_jax.training.rules import Layers, chosen, path_of


def prunes(config: ml_collections.ConfigDict) -> bool:
    """Whether a run prunes weights."""
    return bool(config.prune.share or config.prune.pattern)


def last_share(prune: ml_collections.ConfigDict) -> float:
    """The share of the prunable weights that is pruned at the end."""
    if not prune.pattern:
        return prune.share
    kept, group = parse_pattern(prune.pattern)
    return 1 - kept / group


def prunable(prune: ml_collections.ConfigDict, params: Any, layers: Layers) -> Any:
    """Which parameters are pruned, a tree of bools: kernels but those of config.prune.skip.

    With config.prune.pattern only those whose input channels are whole groups.

    Args:
      prune: config.prune.
      params: arrays or shapes; None where there is none.
      layers: of the model, see `rules.needs_layers`.
    """

    def is_pruned(kernel: bool, skipped: bool, leaf: Any) -> bool:
        fits = not prune.pattern or takes_pattern(leaf.shape, parse_pattern(prune.pattern)[1])
        return kernel and not skipped and fits

    kernels, skipped = chosen(params, ["@kernels"]), chosen(params, prune.skip, layers)
    return jax.tree.map(is_pruned, kernels, skipped, params)


def check_prunable(
    config: ml_collections.ConfigDict, params: Any, layers: Layers, model: str
) -> None:
    """Raises ConfigError if a model has nothing that config.prune would prune."""
    prune = config.prune
    if not any(jax.tree.leaves(prunable(prune, params, layers))):
        why = f"config.prune.skip = {tuple(prune.skip)!r}"
        if prune.pattern:
            why += f" and config.prune.pattern = {prune.pattern!r}"
        raise ConfigError(f"{why} leave no kernel of {model} to prune")


def masks_of(prune: ml_collections.ConfigDict) -> Masks:
    """How config.prune chooses the weights."""
    if prune.pattern:
        return by_pattern(parse_pattern(prune.pattern)[1])
    return by_magnitude(prune.share, prune.scope)


def prune_while_training(
    inner: optax.GradientTransformation,
    config: ml_collections.ConfigDict,
    layers: Layers,
    *,
    course: Course,
    num_examples: int,
    total_steps: int,
) -> optax.GradientTransformation:
    """An optimizer that prunes as config.prune says.

    The share s at the n-th update is s_last * (1 - (1 - done)^3), `done` being how much of the way
    from prune.begin to prune.end is gone by the last rise; Zhu & Gupta 2017, equation 1.

    Args:
      inner: the optimizer of the run.
      config: see `schema.SCHEMA`.
      layers: of the model.
      course, num_examples, total_steps: of the run.

    Raises:
      ConfigError: if the run ends before the whole share is pruned.
    """
    prune = config.prune
    begin, end = (
        max(course.steps(prune[name], num_examples, total_steps), 0) for name in ("begin", "end")
    )
    every = max(course.interval(prune.every, num_examples, total_steps), 1)
    last, end = last_share(prune), max(begin, end)
    if end >= total_steps > 0:
        raise ConfigError(
            f"config.prune.end = {prune.end!r} and begin = {prune.begin!r} are step {end}, and the "
            f"run (config.duration = {config.duration!r}) ends at step {total_steps}: prune earlier"
        )
    target = _cubic(last, begin, end, every)
    return pruned(inner, partial(prunable, prune, layers=layers), masks_of(prune), target)


def _cubic(last: float, begin: int, end: int, every: int) -> Callable[[jax.Array], jax.Array]:
    def target(count: jax.Array) -> jax.Array:
        risen = jnp.where(count >= end, end, begin + (count - begin) // every * every)
        left = 1 - (risen - begin).astype(jnp.float32) / max(end - begin, 1)
        share = jnp.where(count >= end, last, last * (1 - left**3))
        return jnp.where(count >= begin, share, 0.0).astype(jnp.float32)

    return target


def say_pruning(program: Any) -> None:
    """Says what a `program.Program` is going to prune, and which kernels it leaves whole."""
    shapes = program.state_shapes()
    if not (state := prune_state(shapes.opt_state)):
        return
    prune = program.config.prune
    masks = jax.tree.leaves(state.masks)
    names = {path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.masks)}
    kernels = jax.tree_util.tree_leaves_with_path(chosen(shapes.params, ["@kernels"]))
    whole = [path_of(path) for path, is_kernel in kernels if is_kernel]
    whole = ["/".join(path[:-1]) for path in whole if path not in names]
    count = sum(math.prod(mask.shape) for mask in masks)
    of = "each" if prune.scope == "layer" else "all"
    what = prune.pattern or f"{prune.share:.4g} of {of}"
    text = f"{what}, {count:,} weights in {len(masks)} kernels, by {prune.end.strip()}"
    say(f"{'prune':8} {text}; left whole: {', '.join(whole) or 'none'}")

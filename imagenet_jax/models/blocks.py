"""Residual blocks that a network can do without: those beside an identity shortcut."""

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
from flax.linen.module import InterceptorContext

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.layers.residual import Residual


def each_block(
    change: Callable[[str, jax.Array, jax.Array], jax.Array],
) -> AbstractContextManager[None]:
    """While a model runs, the output of each block that could go is change(name, input, output)."""

    def call(
        run: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: InterceptorContext,
    ) -> Any:
        y, block = run(*args, **kwargs), context.module
        is_block = isinstance(block, Residual) and context.method_name == "__call__"
        return change(block.name, args[0], y) if is_block and block.may_go(args[0], y) else y

    return nn.intercept_methods(call)


@functools.lru_cache(maxsize=64)
def removable_blocks(model: nn.Module, image_size: int) -> tuple[str, ...]:
    """The names of the blocks that a model can do without, in the order in which they run."""
    found: list[str] = []

    def note(name: str, x: jax.Array, y: jax.Array) -> jax.Array:
        found.append(name)
        return y

    with each_block(note):
        variable_shapes(model, image_size)
    return tuple(dict.fromkeys(found))


def check_blocks(name: str, model: nn.Module, image_size: int, blocks: Iterable[str]) -> None:
    """Raises ConfigError for blocks that a model does not have, or cannot do without.

    Args:
      name: of the model, for people.
      model: with all of its blocks.
      image_size: height and width of its images in pixels.
      blocks: see `layers.Layers.without_blocks`.
    """
    known = removable_blocks(model, image_size)
    for block in blocks:
        if block not in known:
            raise ConfigError(
                f"config.model.without_blocks: {name} has no block {block!r} whose output has the "
                f"shape of its input, with an identity beside it; there are {', '.join(known)}"
            )


def left_without(variables: Mapping[str, Any], blocks: Iterable[str]) -> dict[str, Any]:
    """Variables, collection first, without those of some blocks of the network or its backbone."""
    gone = frozenset(blocks)

    def kept(tree: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: kept(inner) if name in ("backbone", "body") else inner
            for name, inner in tree.items()
            if name not in gone
        }

    return {collection: kept(tree) for collection, tree in variables.items()}

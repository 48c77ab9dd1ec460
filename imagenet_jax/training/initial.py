"""Initial values on the host, array by array, as a traced function describes them.

One program with all random numbers of a model takes as long to compile as its train step. Here
what is one number everywhere is not computed at all, and what is random shares a program.
"""

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.extend import core

from imagenet_jax.models.layers.platforms import PLAIN, lowering_for
from imagenet_jax.training.draws import draw_arrays, find_draw
from imagenet_jax.training.expressions import Expression, evaluate, expressions

Traced = tuple[core.ClosedJaxpr, Any]


def trace(function: Callable[..., Any], *args: Any) -> Traced:
    """A function's program, and the shapes and dtypes of its results.

    Args:
      function: of trees of arrays.
      args: the arrays, or their shapes and dtypes.
    """
    with lowering_for(PLAIN):  # no initial value depends on what a layer computes
        return jax.make_jaxpr(function, return_shape=True)(*args)


def initial_values(traced: Traced, *args: Any) -> Any:
    """What a traced function returns, to the bits that the compiled one would on a CPU.

    Args:
      traced: see `trace`.
      args: the arrays.

    Returns:
      A tree of NumPy arrays. They may share memory, or repeat one number. They are computed on
      the CPU if JAX has that backend, else on this process's first device.
    """
    program, shapes = traced
    host = _host()
    with jax.default_device(host):
        leaves = (jax.device_put(x, host) if _is_jax(x) else x for x in jax.tree.leaves(args))
        wanted = expressions(program, list(leaves))
        keys: dict[Expression, Any] = {}
        draws = {e: draw for e in dict.fromkeys(wanted) if (draw := find_draw(e))}
        for draw in draws.values():
            _stepwise(draw.key, keys)
        known = draw_arrays(draws, keys)
        values = [_value(expression, known, keys) for expression in wanted]
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def agreed(tree: Any) -> Any:
    """A tree of NumPy arrays that all processes have; where they differ, those of process 0.

    Hosts of one job may have other CPUs, whose last bits differ; devices may not.
    """
    if jax.process_count() == 1:
        return tree
    digest = 0
    for leaf in jax.tree.leaves(tree):
        if any(leaf.strides):  # not one number, repeated
            digest = zlib.crc32(np.ascontiguousarray(leaf), digest)
    digests = multihost_utils.process_allgather(np.uint32(digest))
    if (digests == digests[0]).all():
        return tree
    return jax.tree.map(lambda leaf: np.asarray(multihost_utils.broadcast_one_to_all(leaf)), tree)


def _is_jax(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _host() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return jax.local_devices()[0]


def _value(wanted: Expression, known: dict[Expression, Any], keys: dict[Expression, Any]) -> Any:
    if wanted not in known:
        if wanted.name == "broadcast_in_dim" and wanted.inputs[0].aval.size == 1:
            number = _value(wanted.inputs[0], known, keys).reshape(())
            known[wanted] = np.broadcast_to(number, wanted.aval.shape)
        elif wanted.primitive is None:
            known[wanted] = np.asarray(wanted.value)
        else:
            known[wanted] = _compiled(wanted, keys)
    return known[wanted]


def _compiled(wanted: Expression, keys: dict[Expression, Any]) -> np.ndarray:
    """An array that nothing makes faster than a program of its own."""
    needed = list(dict.fromkeys(_keys_of(wanted)))
    values = [_stepwise(key, keys) for key in needed]
    run = jax.jit(lambda values: evaluate(wanted, dict(zip(needed, values, strict=True))))
    return np.asarray(run(values))


def _keys_of(expression: Expression) -> Iterator[Expression]:
    """The random keys nearest to an expression among those that it depends on."""
    if jax.dtypes.issubdtype(expression.aval.dtype, jax.dtypes.prng_key):
        yield expression
    else:
        for part in expression.inputs:
            yield from _keys_of(part)


def _stepwise(key: Expression, keys: dict[Expression, Any]) -> Any:
    """The value of a random key, by programs of one equation, which all keys share."""
    if key not in keys:
        if key.primitive is None:
            keys[key] = key.value
        else:
            inputs = [_stepwise(part, keys) for part in key.inputs]
            params = tuple(sorted(key.params.items()))
            found = _equation(key.primitive, params)(*inputs)
            keys[key] = found[key.result] if key.primitive.multiple_results else found
    return keys[key]


@functools.lru_cache(maxsize=64)
def _equation(primitive: core.Primitive, params: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(lambda *inputs: primitive.bind(*inputs, **dict(params)))

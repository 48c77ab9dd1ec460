"""Random arrays of any shape by one small program.

Threefry gives each random number from its key and its place in the array alone. So arrays are
cut into rows of one length, and a program that computes some rows serves all arrays that are
made from random bits in the same way and differ in key, shape and scale.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.random import threefry2x32_p

from imagenet_jax.training.expressions import Expression, evaluate

ROW, ROWS = 2**12, 64  # numbers of a row, and rows that are computed at once: what caches hold
# What they compute at a place depends on what stands at that place only.
_BY_PLACE = frozenset(
    (
        *("abs", "add", "and", "bitcast_convert_type", "clamp", "convert_element_type", "cos"),
        *("div", "erf", "erf_inv", "exp", "log", "log1p", "lt", "max", "min", "mul", "neg"),
        *("nextafter", "not", "or", "select_n", "shift_left", "shift_right_logical", "sin"),
        *("sqrt", "stop_gradient", "sub", "xor"),
    )
)
Params = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """A step from random bits to an array.

    Attributes:
      constant: dtype, shape and bytes, if it is one.
      primitive: that computes it; None for a constant, and for the random bits.
      params: of the primitive.
      inputs: numbers of the steps before.
      random: whether it differs from place to place.
    """

    constant: tuple[str, tuple[int, ...], bytes] | None = None
    primitive: core.Primitive | None = None
    params: Params = ()
    inputs: tuple[int, ...] = ()
    random: bool = False


@dataclasses.dataclass(frozen=True)
class Draw:
    """How a random array is made: `steps` from the bits of `key`, times all `factors`."""

    key: Expression
    steps: tuple[Step, ...]
    factors: tuple[Expression, ...]
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        return -(-int(np.prod(self.shape)) // ROW)


def find_draw(expression: Expression) -> Draw | None:
    """How an expression is a random array; None if it is not, or not made place by place."""
    aval, factors, random = expression.aval, [], _Random()
    if not random.holds(expression) or aval.dtype != np.float32:
        return None
    if not jax.config.jax_threefry_partitionable:  # a number depends on the others' places, too
        return None
    # Scales are multiplied with each other first, as XLA does where they are constants.
    while expression.name == "mul" and sum(map(random.holds, expression.inputs)) == 1:
        one, other = expression.inputs
        expression, factor = (one, other) if random.holds(one) else (other, one)
        factors.append(factor)
    steps = _Steps(aval.shape, random)
    try:
        steps.add(expression)
        hash(tuple(steps.done))
    except (_NotByPlace, TypeError):  # TypeError: a parameter that cannot be compared
        return None
    return Draw(steps.key, tuple(steps.done), tuple(factors[::-1]), aval.shape)


def draw_arrays(draws: Mapping[Expression, Draw], keys: Mapping[Expression, jax.Array]) -> dict:
    """The arrays, float32, of expressions that are draws, from the values of their keys."""
    scales = dict(zip(draws, _scales(list(draws.values())), strict=True))
    by_steps: dict[tuple[Step, ...], list[Expression]] = {}
    for expression, draw in draws.items():
        by_steps.setdefault(draw.steps, []).append(expression)
    arrays = {}
    for steps, alike in by_steps.items():
        first = np.cumsum([0, *(draws[e].rows for e in alike)])
        inputs = [
            np.concatenate(columns)
            for columns in zip(
                *(_row_inputs(draws[e], keys[draws[e].key], scales[e]) for e in alike), strict=True
            )
        ]
        numbers = _draw_rows(steps, inputs)
        for start, expression in zip(first, alike, strict=False):
            shape = draws[expression].shape
            flat = numbers[start : start + draws[expression].rows].reshape(-1)
            arrays[expression] = flat[: int(np.prod(shape))].reshape(shape)
    return arrays


def _row_inputs(draw: Draw, key: jax.Array, scale: np.float32) -> tuple[np.ndarray, ...]:
    """Key, place of the first number in two halves, and scale for each row of an array."""
    key = np.asarray(jax.random.key_data(key))
    place = np.arange(draw.rows, dtype=np.uint64) * ROW
    return (
        np.broadcast_to(key, (draw.rows, 2)),
        (place >> 32).astype(np.uint32),
        place.astype(np.uint32),
        np.full(draw.rows, scale, np.float32),
    )


def _draw_rows(steps: tuple[Step, ...], inputs: list[np.ndarray]) -> np.ndarray:
    """float32 [rows, ROW]"""
    rows = len(inputs[0])
    numbers = np.empty((rows, ROW), np.float32)
    for start in range(0, rows, ROWS):
        part = [array[start : start + ROWS] for array in inputs]
        lack = ROWS - len(part[0])
        part = [np.pad(array, [(0, lack)] + [(0, 0)] * (array.ndim - 1)) for array in part]
        numbers[start : start + ROWS] = np.asarray(_program(steps)(*part))[: rows - start]
    return numbers


@functools.lru_cache(maxsize=64)
def _program(steps: tuple[Step, ...]) -> Callable[..., jax.Array]:
    """(keys uint32 [ROWS, 2], places uint32 [ROWS] twice, scales float32 [ROWS]) -> [ROWS, ROW]"""
    shape = (ROWS, ROW)

    @jax.jit
    def draw(key: jax.Array, high: jax.Array, low: jax.Array, scale: jax.Array) -> jax.Array:
        places = low[:, None] + jnp.arange(ROW, dtype=jnp.uint32)[None]
        words = [jnp.broadcast_to(w[:, None], shape) for w in (key[:, 0], key[:, 1], high)]
        values: list[jax.Array] = []
        for step in steps:
            inputs = [values[number] for number in step.inputs]
            if step.constant:
                dtype, form, data = step.constant
                values.append(jnp.asarray(np.frombuffer(data, dtype).reshape(form)))
            elif step.primitive is None:
                one, other = threefry2x32_p.bind(*words, places)
                values.append(one ^ other)
            else:
                if step.random:
                    inputs = [x if x.shape == shape else _filled(x, shape) for x in inputs]
                values.append(step.primitive.bind(*inputs, **dict(step.params)))
        return values[-1] * scale[:, None]

    return draw


def _filled(number: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(number.reshape(()), shape)


def _scales(draws: list[Draw]) -> list[np.float32]:
    """The products of the factors of each draw."""

    def products() -> list[jax.Array]:
        known: dict[Expression, Any] = {}
        found = []
        for draw in draws:
            factors = [jnp.reshape(evaluate(factor, known), ()) for factor in draw.factors]
            found.append(functools.reduce(jnp.multiply, factors, jnp.float32(1)))
        return found

    return jax.device_get(jax.jit(products)())


class _NotByPlace(Exception):
    """An expression that needs a program of its own."""


class _Random:
    """Which expressions depend on random bits."""

    def __init__(self) -> None:
        self._known: dict[Expression, bool] = {}

    def holds(self, expression: Expression) -> bool:
        if expression not in self._known:
            drawn = expression.name == "random_bits"
            self._known[expression] = drawn or any(map(self.holds, expression.inputs))
        return self._known[expression]


class _Steps:
    """The steps to an array of a shape, in an order in which they can be done."""

    def __init__(self, shape: tuple[int, ...], random: _Random):
        self._shape, self._random = shape, random
        self._numbers: dict[Expression, int] = {}
        self.done: list[Step] = []
        self.key: Expression | None = None

    def add(self, expression: Expression) -> int:
        """The number of its step. Raises _NotByPlace for what is not made place by place."""
        if expression not in self._numbers:
            step = self._step(expression)
            self._numbers[expression] = len(self.done)
            self.done.append(step)
        return self._numbers[expression]

    def _step(self, expression: Expression) -> Step:
        if expression.primitive is None:
            value = np.asarray(expression.value)
            if value.size != 1:
                raise _NotByPlace
            return Step(constant=(value.dtype.str, value.shape, value.tobytes()))
        random = self._random.holds(expression)
        if random and expression.aval.shape != self._shape:
            raise _NotByPlace
        if expression.name == "random_bits":
            (key,) = expression.inputs
            known = self.key is None and str(key.aval.dtype) == "key<fry>" and not key.aval.shape
            if not known or expression.params["bit_width"] != 32:
                raise _NotByPlace
            self.key = key
            return Step(random=True)
        if expression.primitive.multiple_results or (random and expression.name not in _BY_PLACE):
            raise _NotByPlace
        others = [x for x in expression.inputs if random and not self._random.holds(x)]
        if any(x.aval.size != 1 for x in others):  # another number at each place
            raise _NotByPlace
        inputs = tuple(map(self.add, expression.inputs))
        params = tuple(sorted(expression.params.items()))
        return Step(None, expression.primitive, params, inputs, random)

"""Names for the axes of a network's parameters, and which of them turn out to be the same.

The operations of a forward pass say so: the two sides of a sum have the same channels, a map and
the scale that it is multiplied by, the outputs of one layer and the inputs of the next. For torch:
Fang et al. 2023, DepGraph, https://arxiv.org/abs/2301.12900.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

# A name of channels, each of which stands for so many entries that follow each other; or None.
Label = tuple[int, int] | None
Labels = tuple[Label, ...]


class Names:
    """Names of axes, some of which turn out to be the same (a union-find with repeats)."""

    def __init__(self) -> None:
        self._parents: list[tuple[int, int]] = []
        self.fixed: set[int] = set()  # which nobody can take channels from

    def fresh(self, shape: Sequence[int]) -> Labels:
        """A new name for each axis."""
        first = len(self._parents)
        self._parents += [(first + axis, 1) for axis in range(len(shape))]
        return tuple((first + axis, 1) for axis in range(len(shape)))

    def find(self, label: tuple[int, int]) -> tuple[int, int]:
        """The name that stands for all that are the same, and how often each channel is there."""
        name, repeat = label
        while self._parents[name][0] != name:
            name, factor = self._parents[name]
            repeat *= factor
        return name, repeat

    def fix(self, label: Label) -> None:
        if label is not None:
            self.fixed.add(self.find(label)[0])

    def same(self, one: Label, other: Label) -> Label:
        """The label of two axes that have the same channels."""
        if one is None or other is None:
            return one or other
        (a, of_a), (b, of_b) = self.find(one), self.find(other)
        if a == b:
            if of_a != of_b:
                self.fixed.add(a)
            return one
        if of_a < of_b:
            (a, of_a), (b, of_b) = (b, of_b), (a, of_a)
        if of_a % of_b:
            self.fixed |= {a, b}
            return one
        self._parents[b] = (a, of_a // of_b)
        if b in self.fixed:
            self.fixed.add(a)
        return one


class Reader:
    """Reads a program and tells `names` which axes are the same."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def run(self, program: core.Jaxpr, given: Sequence[Labels]) -> list[Labels]:
        """The labels of its outputs, by those of its inputs."""
        known: dict[Any, Labels] = dict(zip(program.invars, given, strict=True))

        def labels(var: Any) -> Labels:
            return known.get(var) if not isinstance(var, core.Literal) else None

        for equation in program.eqns:
            operands = [
                labels(var) or (None,) * len(getattr(var.aval, "shape", ()))
                for var in equation.invars
            ]
            found = self._equation(equation, operands)
            known.update(zip(equation.outvars, found, strict=True))
        return [labels(var) or (None,) * len(var.aval.shape) for var in program.outvars]

    def _equation(self, equation: core.JaxprEqn, operands: list[Labels]) -> list[Labels]:
        inner = [equation.params.get(name) for name in ("jaxpr", "call_jaxpr", "fun_jaxpr")]
        inner = [getattr(program, "jaxpr", program) for program in inner if program is not None]
        name = equation.primitive.name
        if inner and len(inner[0].invars) == len(operands) and not name.startswith("reduce"):
            return self.run(inner[0], operands)
        rule: Callable[..., Labels] | None = getattr(self, f"_{name}", None)
        if name.startswith(("reduce_window", "select_and")):
            rule = self._window
        elif name.startswith(("reduce_", "arg")) and "axes" in equation.params:
            rule = self._reduce
        if rule:
            return [rule(equation, *operands)] * len(equation.outvars)
        if name in _IN_ORDER or not _is_elementwise(equation):
            return self._unknown(equation, operands)
        if len(equation.outvars) == len(operands) > 1:  # optimization_barrier
            return operands
        return [self._together(equation, operands)] * len(equation.outvars)

    def _together(self, equation: core.JaxprEqn, operands: Sequence[Labels]) -> Labels:
        """Of operands that are combined entry by entry; an axis of one entry is repeated."""
        shape = equation.outvars[0].aval.shape
        found: list[Label] = [None] * len(shape)
        for var, labels in zip(equation.invars, operands, strict=True):
            for axis, label in enumerate(labels):
                if var.aval.shape[axis] == shape[axis]:
                    found[axis] = self.names.same(found[axis], label)
        return tuple(found)

    def _unknown(self, equation: core.JaxprEqn, operands: Sequence[Labels]) -> list[Labels]:
        for label in (label for labels in operands for label in labels):
            self.names.fix(label)
        return [(None,) * len(var.aval.shape) for var in equation.outvars]

    def _conv_general_dilated(self, equation: core.JaxprEqn, x: Labels, kernel: Labels) -> Labels:
        numbers, groups = equation.params["dimension_numbers"], equation.params
        made, read = (kernel[axis] for axis in numbers.rhs_spec[:2])
        seen, out = x[numbers.lhs_spec[1]], list(equation.outvars[0].aval.shape)
        channels = equation.invars[0].aval.shape[numbers.lhs_spec[1]]
        count = groups["feature_group_count"]
        if count == 1:
            self.names.same(seen, read)
        elif count == channels == out[numbers.out_spec[1]]:
            self.names.same(seen, made)
        else:
            for label in (seen, read, made):
                self.names.fix(label)
        labels: list[Label] = [None] * len(out)
        labels[numbers.out_spec[1]] = made
        return tuple(labels)

    def _dot_general(self, equation: core.JaxprEqn, x: Labels, y: Labels) -> Labels:
        (of_x, of_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
        for one, other in (*zip(of_x, of_y, strict=True), *zip(batch_x, batch_y, strict=True)):
            self.names.same(x[one], y[other])
        free_x = (label for axis, label in enumerate(x) if axis not in (*of_x, *batch_x))
        free_y = (label for axis, label in enumerate(y) if axis not in (*of_y, *batch_y))
        return (*(x[axis] for axis in batch_x), *free_x, *free_y)

    def _broadcast_in_dim(self, equation: core.JaxprEqn, x: Labels, *_: Labels) -> Labels:
        before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        labels: list[Label] = [None] * len(after)
        for axis, place in enumerate(equation.params["broadcast_dimensions"]):
            if before[axis] == after[place]:
                labels[place] = x[axis]
        return tuple(labels)

    def _transpose(self, equation: core.JaxprEqn, x: Labels) -> Labels:
        return tuple(x[axis] for axis in equation.params["permutation"])

    def _squeeze(self, equation: core.JaxprEqn, x: Labels) -> Labels:
        dropped = equation.params["dimensions"]
        return tuple(label for axis, label in enumerate(x) if axis not in dropped)

    def _reduce(self, equation: core.JaxprEqn, x: Labels, *_: Labels) -> Labels:
        """A sum over channels is another one where some are gone."""
        axes = equation.params["axes"]
        for axis in axes:
            self.names.fix(x[axis])
        return tuple(label for axis, label in enumerate(x) if axis not in axes)

    def _window(self, equation: core.JaxprEqn, x: Labels, *_: Labels) -> Labels:
        return self._unmoved(equation, x)

    def _pad(self, equation: core.JaxprEqn, x: Labels, *_: Labels) -> Labels:
        return self._unmoved(equation, x)

    def _slice(self, equation: core.JaxprEqn, x: Labels) -> Labels:
        return self._unmoved(equation, x)

    def _unmoved(self, equation: core.JaxprEqn, x: Labels) -> Labels:
        """Each axis of the result is that of x; one that has another length is no more known."""
        shapes = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        for label, before, after in zip(x, *shapes, strict=True):
            if before != after:
                self.names.fix(label)
        pairs = zip(x, *shapes, strict=True)
        return tuple(label if before == after else None for label, before, after in pairs)

    def _concatenate(self, equation: core.JaxprEqn, *operands: Labels) -> Labels:
        joined = equation.params["dimension"]
        for labels in operands:
            self.names.fix(labels[joined])
        others = [(*labels[:joined], None, *labels[joined + 1 :]) for labels in operands]
        return self._together(equation, others)

    def _reshape(self, equation: core.JaxprEqn, x: Labels, *_: Labels) -> Labels:
        """Axes of one entry come and go; of some that become one the first may have channels."""
        before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        labels: list[Label] = [None] * len(after)
        for old, new in _regrouped(before, after):
            label = x[old[0]] if old else None
            if len(new) == 1 and old:
                rest = math.prod(before[axis] for axis in old[1:])
                labels[new[0]] = (label[0], label[1] * rest) if label else None
                old = old[1:]
            for axis in old:
                self.names.fix(x[axis])
        return tuple(labels)


# Of the same shape as what they are given, and yet not entry by entry.
_IN_ORDER = ("sort", "rev", "fft", "scan", "while", "cond")
_IN_ORDER += ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


def _is_elementwise(equation: core.JaxprEqn) -> bool:
    """Whether the operands have the shape of the results, but for scalars and axes of one entry."""
    shape = equation.outvars[0].aval.shape

    def fits(operand: Sequence[int]) -> bool:
        same_rank = len(operand) == len(shape)
        return same_rank and all(a in (1, b) for a, b in zip(operand, shape, strict=True))

    operands = [getattr(var.aval, "shape", ()) for var in equation.invars]
    alike = all(var.aval.shape == shape for var in equation.outvars)
    return alike and all(not operand or fits(operand) for operand in operands)


def _regrouped(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes become which in a reshape, without those of one entry."""
    old = [axis for axis, size in enumerate(before) if size != 1]
    new = [axis for axis, size in enumerate(after) if size != 1]
    found = []
    while old or new:
        one, other = [old.pop(0)] if old else [], [new.pop(0)] if new else []
        while (a := math.prod(before[axis] for axis in one)) != (
            b := math.prod(after[axis] for axis in other)
        ):
            if a < b:
                one.append(old.pop(0))
            else:
                other.append(new.pop(0))
        found.append((one, other))
    return found

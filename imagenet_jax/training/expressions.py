"""What each result of a traced function is computed from, as a graph without all the rest."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend import core

# Equations that only call a program of their own; all others are taken as they are.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint")
_NAMES = ("jaxpr", "call_jaxpr")  # of that program among an equation's parameters


@dataclasses.dataclass(frozen=True, eq=False)
class Expression:
    """A value, known or to be computed from others.

    Attributes:
      aval: its shape and dtype.
      value: of a constant, else None.
      primitive: of JAX, that computes it from `inputs` and `params`; None for a constant.
      params: of the primitive.
      inputs: expressions.
      result: which of the primitive's results it is.
    """

    aval: Any
    value: Any = None
    primitive: core.Primitive | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple["Expression", ...] = ()
    result: int = 0

    @property
    def name(self) -> str:
        """Of the primitive; "" for a constant."""
        return self.primitive.name if self.primitive else ""

    def bind(self, *inputs: Any) -> Any:
        """Computes it from the values of `inputs`."""
        found = self.primitive.bind(*inputs, **self.primitive.get_bind_params(self.params))
        return found[self.result] if self.primitive.multiple_results else found


def expressions(traced: core.ClosedJaxpr, arguments: Sequence[Any]) -> list[Expression]:
    """The results of a traced function.

    Args:
      traced: what `jax.make_jaxpr` gives.
      arguments: their values, NumPy's or JAX's arrays.

    Returns:
      An expression for each result; what several depend on is one object.
    """
    known = [*zip(traced.jaxpr.constvars, traced.consts, strict=True)]
    known += zip(traced.jaxpr.invars, arguments, strict=True)
    inputs = {var: Expression(var.aval, value) for var, value in known}
    scope = _Scope(traced.jaxpr, lambda var: inputs[var])
    return [scope.find(atom) for atom in traced.jaxpr.outvars]


def evaluate(wanted: Expression, known: dict[Expression, Any]) -> Any:
    """The value of an expression; `known` has some already, and gets those that were needed."""
    if wanted not in known:
        if wanted.primitive is None:
            known[wanted] = wanted.value
        else:
            known[wanted] = wanted.bind(*(evaluate(part, known) for part in wanted.inputs))
    return known[wanted]


class _Scope:
    """The equations of a program, of which those that are asked for become expressions."""

    def __init__(self, program: core.Jaxpr, bound: Callable[[core.Var], Expression]):
        """`bound` gives the expressions of the program's inputs."""
        self._equations = {var: eqn for eqn in program.eqns for var in eqn.outvars}
        self._bound = bound
        self._found: dict[core.Var, Expression] = {}
        self._called: dict[int, _Scope] = {}

    def find(self, atom: core.Var | core.Literal) -> Expression:
        if isinstance(atom, core.Literal):
            return Expression(atom.aval, np.asarray(atom.val, atom.aval.dtype))
        if atom not in self._found:
            self._found[atom] = self._make(atom)
        return self._found[atom]

    def _make(self, var: core.Var) -> Expression:
        equation = self._equations.get(var)
        if equation is None:
            return self._bound(var)
        place = equation.outvars.index(var)
        inner = next((equation.params[n] for n in _NAMES if n in equation.params), None)
        if equation.primitive.name in _CALLS and inner is not None:
            return self._inside(equation, inner).find(getattr(inner, "jaxpr", inner).outvars[place])
        if equation.primitive.name in ("copy", "copy_p"):
            return self.find(equation.invars[0])
        inputs = tuple(map(self.find, equation.invars))
        return Expression(var.aval, None, equation.primitive, equation.params, inputs, place)

    def _inside(self, equation: core.JaxprEqn, inner: core.Jaxpr | core.ClosedJaxpr) -> "_Scope":
        if id(equation) not in self._called:
            program = getattr(inner, "jaxpr", inner)
            constants = dict(zip(program.constvars, getattr(inner, "consts", ()), strict=True))
            outside = dict(zip(program.invars, equation.invars, strict=True))

            def bound(var: core.Var) -> Expression:
                if var in constants:
                    return Expression(var.aval, constants[var])
                return self.find(outside[var])

            self._called[id(equation)] = _Scope(program, bound)
        return self._called[id(equation)]

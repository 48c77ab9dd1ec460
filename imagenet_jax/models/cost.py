"""Parameters and multiply-adds of a model, counted from its shapes; nothing is computed."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from imagenet_jax.models.layers.platforms import PLAIN, lowering_for


def variable_shapes(model: nn.Module, image_size: int, channels: int = 3) -> dict[str, Any]:
    """Shapes and dtypes of a model's variables for images of image_size x image_size."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, channels), jnp.float32)
    with lowering_for(PLAIN):
        return jax.eval_shape(lambda i: model.init(jax.random.key(0), i, train=False), image)


def count_params(variables: dict[str, Any]) -> int:
    """Number of parameters, running statistics excluded."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def count_macs(model: nn.Module, image_size: int, variables: dict[str, Any] | None = None) -> int:
    """Multiply-adds of the convolutions and matrix products of one image's logits.

    `variables` are the shapes that `variable_shapes` gives, if they are at hand.
    """
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = variables or variable_shapes(model, image_size)
    with lowering_for(PLAIN):
        program = jax.make_jaxpr(lambda v, i: model.apply(v, i, train=False))(variables, image)
    return _macs(program.jaxpr)


def _macs(program: core.Jaxpr) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            output = equation.params["dimension_numbers"].rhs_spec[0]
            # A kernel has one entry per output channel, place and input channel of its group.
            total += math.prod(equation.outvars[0].aval.shape) * (
                math.prod(kernel) // kernel[output]
            )
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            summed = math.prod(shape[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * summed
        elif equation.params.get("name") != "_resize":  # jax.image's, which is no layer
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
            for inner in _inner(equation.params):
                total += times * _macs(inner)
    return total


def _inner(params: dict[str, Any]) -> list[core.Jaxpr]:
    """The programs that an equation calls."""
    values = [
        v for value in params.values() for v in (value if isinstance(value, tuple) else [value])
    ]
    programs = [getattr(value, "jaxpr", value) for value in values]
    return [program for program in programs if isinstance(program, core.Jaxpr)]

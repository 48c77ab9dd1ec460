"""Functions of two arrays, linear in each, whose gradients are given and not derived."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def bilinear(
    name: str,
    forward: Callable[..., jax.Array],
    of_x: Callable[..., jax.Array],
    of_kernel: Callable[..., jax.Array],
) -> Callable[..., jax.Array]:
    """f(x, kernel, **static) = forward(x, kernel, **static), with these gradients.

    Each of the three is bilinear and the other two are its gradients, so that derivatives of any
    order exist, forward and reverse, and are computed by these three.

    Args:
      name: in programs.
      forward: (x, kernel, **static) -> y.
      of_x: (dy, kernel, x_shape=..., kernel_shape=..., **static) -> gradient of x.
      of_kernel: (x, dy, x_shape=..., kernel_shape=..., **static) -> gradient of the kernel.
    """

    shapes = ("x_shape", "kernel_shape")  # which the gradients need and `forward` does not

    def without_shapes(x: jax.Array, kernel: jax.Array, **static: Any) -> jax.Array:
        return forward(x, kernel, **{k: v for k, v in static.items() if k not in shapes})

    f = _primitive(name, without_shapes)
    g = _primitive(f"{name}_of_x", of_x)
    h = _primitive(f"{name}_of_kernel", of_kernel)
    ad.defbilinear(
        f,
        lambda ct, x, kernel, **static: g.bind(ct, kernel, **static),
        lambda ct, x, kernel, **static: h.bind(x, ct, **static),
    )
    ad.defbilinear(
        g,
        lambda ct, dy, kernel, **static: f.bind(ct, kernel, **static),
        lambda ct, dy, kernel, **static: h.bind(ct, dy, **static),
    )
    ad.defbilinear(
        h,
        lambda ct, x, dy, **static: g.bind(dy, ct, **static),
        lambda ct, x, dy, **static: f.bind(x, ct, **static),
    )

    def function(x: jax.Array, kernel: jax.Array, **static: Any) -> jax.Array:
        return f.bind(x, kernel, x_shape=x.shape, kernel_shape=kernel.shape, **static)

    return function


def _primitive(name: str, function: Callable[..., jax.Array]) -> Primitive:
    """`function` as one equation of a jaxpr, which is compiled as what it consists of."""
    primitive = Primitive(name)

    def shape(*arguments: Any, **static: Any) -> Any:
        out = jax.eval_shape(lambda *a: function(*a, **static), *arguments)
        return jax.core.ShapedArray(out.shape, out.dtype)

    def batched(arguments: Any, axes: Any, **static: Any) -> tuple[jax.Array, int]:
        return jax.vmap(lambda *a: function(*a, **static), axes)(*arguments), 0

    primitive.def_impl(function)
    primitive.def_abstract_eval(shape)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    return primitive

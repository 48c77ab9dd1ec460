"""A map within a network while it computes, and the gradient of a score with respect to it.

No model knows of it: Linen's interceptor sees the map, and the program that JAX has traced is run
with something added to it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.module import InterceptorContext
from jax.extend import core

from imagenet_jax.models.backbone import ALL, Backbone
from imagenet_jax.models.mixer import Mixer
from imagenet_jax.models.vit import ViT


class Place(NamedTuple):
    """A map that a score has a gradient with respect to.

    Attributes:
      name: of the backbone's map.
      module: the end of the path of the module that gives it as tokens [B, T, C], of which those
        of patches come last; (): the backbone gives it itself.
      sides: height and width.
    """

    name: str
    module: tuple[str, ...]
    sides: tuple[int, int]


def unrolled(model: nn.Module) -> nn.Module:
    """The same network with its blocks in a row, where it has them in a loop that hides them."""
    changed: dict[str, Any] = {
        field.name: unrolled(value)
        for field in dataclasses.fields(model)
        if field.name != "parent" and isinstance(value := getattr(model, field.name), nn.Module)
    }
    if getattr(model, "scan", False):
        changed["scan"] = False
    return model.clone(**changed) if changed else model


def find_places(run: Callable[..., Any], *shapes: Any) -> dict[str, Place]:
    """The maps of a network by name, in the order of computation; nothing is computed.

    Args:
      run: calls the network with `shapes`, which are of one image.
    """
    places: dict[str, Place] = {}

    def keep(module: Backbone, whole: bool, maps: Mapping[str, jax.Array]) -> None:
        for name, x in maps.items():
            # The logits of such networks do not depend on the map that is told, but on its tokens.
            inside = {ViT: (name, "norm1"), Mixer: (name,)} if whole else {}
            places[name] = Place(name, inside.get(type(module), ()), x.shape[1:3])

    with nn.intercept_methods(_seeing(keep)):
        jax.eval_shape(run, *shapes)
    return places


def map_and_gradient(
    run: Callable[..., jax.Array], place: Place, *args: Any
) -> tuple[jax.Array, jax.Array]:
    """A map [B, h, w, C] and the gradient of run(*args), the sum of scores [B], by it.

    Traced within `jax.jit`.
    """
    found: list[jax.Array] = []

    def keep(module: Backbone, whole: bool, maps: Mapping[str, jax.Array]) -> None:
        if not place.module and place.name in maps:
            found.append(maps[place.name])

    def see(call: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        out, path = call(*args, **kwargs), context.module.path
        if place.module and path[-len(place.module) :] == place.module:
            found.append(out)
        return out

    def seen(*args: Any) -> tuple[jax.Array, jax.Array]:
        with nn.intercept_methods(_seeing(keep)), nn.intercept_methods(see):
            score = run(*args)
        return score.sum(), found[-1]

    program = jax.make_jaxpr(seen)(*args)
    shape = program.out_avals[1]

    def moved(by: jax.Array) -> tuple[jax.Array, jax.Array]:
        score, x = _run_with(program, jax.tree.leaves(args), program.jaxpr.outvars[1], by)
        return score, x

    gradient, x = jax.grad(moved, has_aux=True)(jnp.zeros(shape.shape, shape.dtype))
    return _as_map(x, place), _as_map(gradient, place)


def _seeing(keep: Callable[[Backbone, bool, Mapping[str, jax.Array]], None]) -> Callable[..., Any]:
    """An interceptor that gives `keep` each backbone, whether its logits are asked for, and its
    maps."""

    def see(call: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        module = context.module
        if not isinstance(module, Backbone) or context.method_name != "__call__":
            return call(*args, **kwargs)
        image, train, *names = args + tuple(kwargs[k] for k in ("train", "names") if k in kwargs)
        if names and names[0]:
            out = call(image, train, names[0])
            keep(module, False, out[1] if names[0] is ALL else out)
            return out
        logits, maps = call(image, train, ALL)
        keep(module, True, maps)
        return logits

    return see


def _run_with(
    program: core.ClosedJaxpr, args: list[Any], where: core.Var, added: jax.Array
) -> Iterator[Any]:
    """The outputs of a program with something added to one of its values; as JAX evaluates one."""
    jaxpr = program.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *args), strict=True))

    def value(var: Any) -> Any:
        return var.val if isinstance(var, core.Literal) else known[var]

    for equation in jaxpr.eqns:
        primitive = equation.primitive
        params = primitive.get_bind_params(equation.params)
        out = primitive.bind(*map(value, equation.invars), **params)
        outs = out if primitive.multiple_results else [out]
        known |= dict(zip(equation.outvars, outs, strict=True))
        if where in equation.outvars:
            known[where] = known[where] + added
    return map(value, jaxpr.outvars)


def _as_map(x: jax.Array, place: Place) -> jax.Array:
    if not place.module:
        return x
    height, width = place.sides
    return x[:, -height * width :].reshape(x.shape[0], height, width, x.shape[-1])

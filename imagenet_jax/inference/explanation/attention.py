"""Attention rollout (Abnar & Zuidema 2020, https://arxiv.org/abs/2005.00928)."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.module import InterceptorContext

from imagenet_jax.inference.explanation.programs import Program, Programs
from imagenet_jax.models.layers.self_attention import Attention


def attention_weights(run: Callable[..., Any], *args: Any) -> list[jax.Array]:
    """The attention of each block while run(*args) computes, float32 [B, heads, T, T]: the row of
    a token has what it takes of each other one, in sum 1."""
    found: list[jax.Array] = []

    def see(call: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        module, parent = context.module, context.module.parent
        outputs = call(*args, **kwargs)
        if context.method_name != "__call__":
            return outputs
        if isinstance(module, Attention) and not module.layers.quantize:
            found.append(_weights(module, args[0]))
        if isinstance(parent, Attention) and parent.layers.quantize and module.name == "qkv":
            found.append(_softmax(outputs, parent.heads))  # of what is rounded
        return outputs

    with nn.intercept_methods(see):
        run(*args)
    return found


def _weights(module: Attention, x: jax.Array) -> jax.Array:
    """Once more from what the module sees: by itself, it need not have them in memory."""
    params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), module.variables["params"]["qkv"])
    return _softmax(x @ params["kernel"] + params["bias"][None, None], module.heads)


def _softmax(qkv: jax.Array, heads: int) -> jax.Array:
    """Of queries and keys in [B, T, 3 C]."""
    q, k, _ = jnp.moveaxis(qkv.reshape(*qkv.shape[:2], 3, heads, -1), 2, 0)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
    return jax.nn.softmax(logits.astype(jnp.float32))


def attention_rollout(programs: Programs, sides: tuple[int, int]) -> Program:
    """A program of float32 [B, h, w]: how much of each patch reaches what the logits come from.

    Args:
      programs: of a vision transformer.
      sides: of its grid of patches.
    """

    @jax.jit
    def rollout(variables: Any, inputs: jax.Array, _: Any) -> jax.Array:
        weights = attention_weights(programs.outputs, variables, inputs)
        return rolled_out(weights, programs.model.tokens)[:, -sides[0] * sides[1] :].reshape(
            -1, *sides
        )

    return rollout


def rolled_out(weights: Sequence[jax.Array], tokens: int) -> jax.Array:
    """How much of each token [B, T] reaches what the logits come from.

    Half of a block is its attention, the mean over the heads, and half its shortcut. It is the same
    for every class.

    Args:
      weights: of the blocks, [B, heads, T, T].
      tokens: how many of the first ones these are; 0: the mean of all.
    """
    one = jnp.eye(weights[0].shape[-1])[None]
    whole = one
    for of_block in weights:
        whole = (of_block.mean(1) + one) / 2 @ whole
    return (whole[:, :tokens] if tokens else whole).mean(1)

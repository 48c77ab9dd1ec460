"""DETR's transformer (Carion et al. 2020, https://arxiv.org/abs/2005.12872), as in its code."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers

_DROPOUT = 0.1
_TEMPERATURE, _EPSILON = 10_000.0, 1e-6  # of the embeddings of places
_xavier = nn.initializers.xavier_uniform()


def sine_places(height: int, width: int, channels: int) -> np.ndarray:
    """Embeddings float32 [height * width, channels] of the places of a map.

    Sines and cosines, in turn, of y, then of x, both as shares of the map of 0 to 2 pi, at
    channels / 4 frequencies.
    """
    half = channels // 2
    wave = _TEMPERATURE ** (2 * (np.arange(half) // 2) / half)
    parts = []
    for places in np.mgrid[1 : height + 1, 1 : width + 1].reshape(2, -1):
        angle = places[:, None] / (places.max() + _EPSILON) * 2 * math.pi / wave
        parts.append(np.where(np.arange(half) % 2, np.cos(angle), np.sin(angle)))
    return np.concatenate(parts, 1).astype(np.float32)


class MultiHeadAttention(nn.Module):
    """Attention of queries to keys (Vaswani et al. 2017), with dropout of its weights.

    Attributes:
      heads: how many.
      layers: see `layers.Layers`.
    """

    heads: int
    layers: Layers

    @nn.compact
    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array, train: bool):
        """[B, Q, C] of queries [B, Q, C], and of keys and values [B, T, C]."""
        channels, dtype = query.shape[-1], query.dtype
        plain = dataclasses.replace(self.layers, quantize="")  # its kernel is cut into three
        project = plain.dense(3 * channels, init=_xavier, name="in_proj")
        if self.is_initializing():
            project(query)
        params = jax.tree.map(lambda array: array.astype(dtype), project.variables["params"])
        kernels, biases = jnp.split(params["kernel"], 3, 1), jnp.split(params["bias"], 3)
        q, k, v = (
            (x @ kernel + bias[None, None]).reshape(*x.shape[:2], self.heads, -1)
            for x, kernel, bias in zip((query, key, value), kernels, biases, strict=True)
        )
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
        weights = jax.nn.softmax(logits.astype(wide(dtype))).astype(dtype)
        weights = self.layers.dropout(_DROPOUT)(weights, train)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(query.shape)
        return self.layers.dense(channels, init=_xavier, name="out_proj")(y)


class TransformerLayer(nn.Module):
    """Attention within x, in a decoder also to what the encoder made, and two linear layers.

    Each has a shortcut beside it and a norm behind that.

    Attributes:
      heads: of the attention.
      inner: channels between the linear layers.
      layers: see `layers.Layers`.
    """

    heads: int
    inner: int
    layers: Layers

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        places: jax.Array,
        train: bool,
        memory: jax.Array | None = None,
        memory_places: jax.Array | None = None,
    ) -> jax.Array:
        """x [B, N, C]; places [1, N, C] are added to queries and keys. memory [B, T, C]: of the
        encoder, with its own places."""
        layers, count = self.layers, 0

        def added(x: jax.Array, branch: jax.Array) -> jax.Array:
            nonlocal count
            count += 1
            norm = layers.layer_norm(name=f"norm{count}", epsilon=1e-5)
            return norm(x + layers.dropout(_DROPOUT)(branch, train))

        there = x + places
        attend = MultiHeadAttention(self.heads, layers, name="self_attn")
        x = added(x, attend(there, there, x, train))
        if memory is not None:
            attend = MultiHeadAttention(self.heads, layers, name="multihead_attn")
            x = added(x, attend(x + places, memory + memory_places, memory, train))
        inner = layers.dense(self.inner, init=_xavier, name="linear1")(x)
        inner = layers.dropout(_DROPOUT)(nn.relu(inner), train)
        return added(x, layers.dense(x.shape[-1], init=_xavier, name="linear2")(inner))


class Transformer(nn.Module):
    """An encoder of a map and a decoder of queries.

    Attributes:
      depth: layers of each.
      heads, inner: see `TransformerLayer`.
      layers: see `layers.Layers`.
    """

    depth: int
    heads: int
    inner: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, queries: jax.Array, train: bool) -> jax.Array:
        """What the layers of the decoder make of queries [Q, C]: [B, depth, Q, C] in training, else
        of the last one, [B, 1, Q, C]; x [B, H, W, C]."""
        batch, height, width, channels = x.shape
        how = {"heads": self.heads, "inner": self.inner, "layers": self.layers}
        places = jnp.asarray(sine_places(height, width, channels), x.dtype)[None]
        memory = x.reshape(batch, -1, channels)
        for number in range(self.depth):
            memory = TransformerLayer(**how, name=f"encoder.layers.{number}")(memory, places, train)
        queries = queries.astype(x.dtype)[None]
        found = jnp.zeros((batch, *queries.shape[1:]), x.dtype)
        norm, each = self.layers.layer_norm(name="decoder.norm", epsilon=1e-5), []
        for number in range(self.depth):
            layer = TransformerLayer(**how, name=f"decoder.layers.{number}")
            found = layer(found, queries, train, memory, places)
            if train or number == self.depth - 1:
                each.append(norm(found))
        return jnp.stack(each, 1)


class Queries(nn.Module):
    """What the decoder begins with, learnt; as "kernel" [C, Q], which torch has transposed."""

    count: int
    channels: int

    @nn.compact
    def __call__(self) -> jax.Array:
        """[Q, C]."""
        shape = self.channels, self.count
        return self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32).T


def linear(layers: Layers, features: int, name: str) -> nn.Dense:
    """torch's linear layer, its kernel as it is there unless it is said."""
    return layers.dense(features, init=torch_default, name=name)

"""The perceptron of transformers and MLP-Mixers."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from imagenet_jax.models.layers.layers import Layers, normal_02


class Mlp(nn.Module):
    """Two linear layers with GELU between, over the last axis."""

    inner: int
    layers: Layers
    dropout: float = 0.0
    init: Callable = normal_02
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        dense = partial(self.layers.dense, init=self.init, bias_init=self.bias_init)
        y = self.layers.gelu(dense(self.inner, name="fc1")(x))
        y = self.layers.dropout(self.dropout)(y, train)
        y = dense(x.shape[-1], name="fc2")(y)
        return self.layers.dropout(self.dropout)(y, train)

"""Self-attention over the tokens of an image, as each platform computes it best."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.attention import attention, has_flash_attention
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, normal_02
from imagenet_jax.models.layers.platforms import CPU, choose

Params = dict[str, jax.Array]


class Attention(nn.Module):
    """Multi-head self-attention over tokens [B, T, C]."""

    heads: int
    layers: Layers
    init: Callable = normal_02

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, dtype = x.shape[-1], x.dtype
        qkv = self.layers.dense(3 * channels, init=self.init, name="qkv")
        proj = self.layers.dense(channels, init=self.init, name="proj")
        if self.is_initializing():
            return proj(jnp.split(qkv(x), 3, -1)[0])
        if self.layers.quantize:  # the modules round
            return proj(self._attended(qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)))
        params = qkv.variables["params"], proj.variables["params"]
        params = jax.tree.map(lambda param: param.astype(dtype), params)
        attend = partial(choose, CPU, self._in_rows, self._attend)
        if not has_flash_attention(dtype, channels // self.heads):
            return attend(x, *params)
        return choose(("cuda",), self._flash, attend, x, *params)

    @nn.nowrap
    def _attend(self, x: jax.Array, inner: Params, outer: Params) -> jax.Array:
        channels = x.shape[-1]
        # Each head's q, k and v come out of the products as `attention` reads them: one product
        # for all three, and a reshape after it, cost XLA six copies a block.
        kernels = jnp.moveaxis(inner["kernel"].reshape(channels, 3, self.heads, -1), 1, 0)
        biases = inner["bias"].reshape(3, self.heads, -1, 1)
        q, k, v = (
            jnp.einsum("btc,chd->bhdt", x, kernel) + bias[None]
            for kernel, bias in zip(kernels, biases, strict=True)
        )
        kernel = outer["kernel"].reshape(self.heads, -1, channels)
        return jnp.einsum("bhdq,hdc->bqc", attention(q, k, v), kernel) + outer["bias"][None, None]

    @nn.nowrap
    def _in_rows(self, x: jax.Array, inner: Params, outer: Params) -> jax.Array:
        """With channels last throughout, which spares a CPU transposing."""
        kernel = inner["kernel"].reshape(-1, 3, self.heads, x.shape[-1] // self.heads)
        bias = inner["bias"].reshape(1, 1, *kernel.shape[1:])
        y = self._attended(jnp.einsum("btc,cshd->btshd", x, kernel) + bias)
        return y @ outer["kernel"] + outer["bias"][None, None]

    @nn.nowrap
    def _attended(self, qkv: jax.Array) -> jax.Array:
        """[B, T, C] of q, k and v of each head [B, T, 3, H, C / H]."""
        q, k, v = (qkv[:, :, part] for part in range(3))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
        weights = jax.nn.softmax(logits.astype(wide(qkv.dtype))).astype(qkv.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return y.reshape(*y.shape[:2], -1)

    @nn.nowrap
    def _flash(self, x: jax.Array, inner: Params, outer: Params) -> jax.Array:
        """By cuDNN, whose kernels keep the weights of pairs of tokens to themselves."""
        # In heads from the start: tensor_parallel gathers the kernel, and not the activations.
        kernel = inner["kernel"].reshape(-1, 3, self.heads, x.shape[-1] // self.heads)
        bias = inner["bias"].reshape(1, 1, *kernel.shape[1:])
        qkv = jnp.einsum("btc,cshd->btshd", x, kernel) + bias
        q, k, v = (qkv[:, :, part] for part in range(3))
        y = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        return y.reshape(x.shape) @ outer["kernel"] + outer["bias"][None, None]

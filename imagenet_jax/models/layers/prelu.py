"""A ReLU whose slope below zero is learnt."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), a slope for each channel (He et al. 2015), as torch's.

    https://arxiv.org/abs/1502.01852
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of x [B, ..., C], in its dtype; slopes are float32 [C] and start at 0.25."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:], jnp.float32)
        slope = jax.lax.broadcast_to_rank(slope.astype(x.dtype), x.ndim)
        return jnp.where(x > 0, x, slope * x)

"""Dropout that does not depend on the devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Sets values to zero in training and scales the others up to keep the mean.

    What is dropped is a function of the key and of the example's row in the global batch, so it
    does not depend on the devices.

    Attributes:
      rate: probability of being dropped, 0 to 1; an array where it differs in a loop.
      whole_example: drop all values of an example or none.
      axis_name: mapped axis over which the batch is spread.
    """

    rate: float | jax.Array
    whole_example: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x [B, ...]; in training the model needs rngs={"dropout": key}."""
        if not train or (isinstance(self.rate, float | int) and not self.rate):
            return x
        rows = jnp.arange(x.shape[0])
        if self.axis_name:
            rows += x.shape[0] * jax.lax.axis_index(self.axis_name)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.make_rng("dropout"), rows)
        shape = (1,) * (x.ndim - 1) if self.whole_example else x.shape[1:]
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, shape))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)

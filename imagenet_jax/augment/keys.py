"""Random keys of examples: functions of (key, epoch, index), not of the place in a batch."""

import jax


def example_keys(key: jax.Array, epoch: jax.Array, index: jax.Array) -> jax.Array:
    """One key per example [B] from a key and its epoch and index, int32 [B]."""
    return jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(key, e), i))(epoch, index)


def fold_in(keys: jax.Array, data: int) -> jax.Array:
    """`jax.random.fold_in` for keys [B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)


def uniform(keys: jax.Array, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """A number in [low, high) for each key [B]; float32 [B]."""
    return jax.vmap(lambda key: jax.random.uniform(key, (), minval=low, maxval=high))(keys)

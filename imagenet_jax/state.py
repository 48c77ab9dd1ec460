"""The state of a training run: all that a step reads and writes."""

import hashlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from imagenet_jax.tuning import WHOLE, Tuning


@flax.struct.dataclass
class TrainState:
    """A frozen pytree.

    Attributes:
      step: updates done, int32 scalar.
      params: float32 parameters.
      batch_stats: running statistics of the norms, float32.
      opt_state: state of the Optax transformation.
      ema: averaged {"params", "batch_stats"}, or None.
      rng: raw key data uint32 [2] from which augmentation and dropout draw.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any
    rng: jax.Array

    def eval_variables(self) -> dict[str, Any]:
        """The variables to evaluate: the averaged ones where there are any."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    image_size: int,
    ema: bool,
    tuning: Tuning = WHOLE,
    start: dict[str, Any] | None = None,
) -> TrainState:
    """A fresh state. Pure; compile it with the sharding it should have.

    Args:
      model, optimizer: of the run.
      seed: decides on the random parameters, and on augmentation and dropout later.
      image_size: height and width in pixels.
      ema: keep averaged weights.
      tuning: which parameters the optimizer has a state for.
      start: params and batch_stats that take the place of the random ones; may lack some.
    """
    init_key, rng = jax.random.split(jax.random.key(seed))
    image = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = model.init(init_key, image, train=False)
    params = _replaced(variables["params"], (start or {}).get("params", {}))
    batch_stats = _replaced(variables.get("batch_stats", {}), (start or {}).get("batch_stats", {}))
    params = tuning.add_lora(params, jax.random.fold_in(init_key, 1))
    average = {"params": params, "batch_stats": batch_stats}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(tuning.split(params)[0]),
        # A copy: the donated state may not hold the same buffer twice.
        ema=jax.tree.map(jnp.copy, average) if ema else None,
        rng=jax.random.key_data(rng),
    )


def _replaced(tree: Any, new: Any) -> Any:
    """`tree` with the leaves of `new` in place of its own."""
    if not isinstance(tree, Mapping):
        return jnp.asarray(new, tree.dtype)
    return {k: _replaced(v, new[k]) if k in new else v for k, v in tree.items()}


def state_sha256(state: TrainState) -> str:
    """Hash over params, batch_stats and opt_state: path, dtype, shape and bytes, by path."""
    parts = {"params": state.params, "batch_stats": state.batch_stats, "opt": state.opt_state}
    leaves = jax.tree_util.tree_leaves_with_path(parts)
    digest = hashlib.sha256()
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = _whole(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _whole(leaf: jax.Array) -> np.ndarray:
    """The array on the host, also if other processes hold parts of it; all have to ask for it."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(jax.device_get(leaf))
    return multihost_utils.process_allgather(leaf, tiled=True)


def different_arrays(found: Any, expected: Any) -> list[str]:
    """What differs between two trees of arrays, shapes or Orbax's metadata, by name and shape."""
    have, want = _array_shapes(found), _array_shapes(expected)
    wrong = [f"missing {name} {want[name]}" for name in want if name not in have]
    wrong += [f"unexpected {name} {have[name]}" for name in have if name not in want]
    return wrong + [
        f"{name} is {have[name]}, expected {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]


def _array_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """{"params/head/bias": (10,), ...}"""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {
        "/".join(
            str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
        ): tuple(leaf.shape)
        for path, leaf in leaves
    }


def checksum(state: TrainState) -> jax.Array:
    """A uint32 over all bits of the state, whose sum does not depend on order or sharding.

    Cheap enough to be stored with each checkpoint and compared when it is read back.
    """
    total = jnp.zeros((), jnp.uint32)
    for number, leaf in enumerate(jax.tree.leaves(state)):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32).reshape(-1)
        place = jnp.arange(bits.size, dtype=jnp.uint32)
        mixed = (bits ^ place * jnp.uint32(2654435761)) * jnp.uint32(2 * number + 2246822519)
        total += jnp.sum(mixed ^ (mixed >> 15), dtype=jnp.uint32)
    return total


def all_finite(state: TrainState) -> jax.Array:
    """Whether no float of the state is NaN or infinite; bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()

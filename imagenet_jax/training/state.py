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

from imagenet_jax.training.optimizers.schedule_free import averaged
from imagenet_jax.training.tuning import WHOLE, Tuning


@flax.struct.dataclass
class TrainState:
    """A frozen pytree.

    Attributes:
      step: updates done, int32 scalar.
      params: float32 parameters; with a schedule-free optimizer where gradients are computed.
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

    def eval_variables(self, weights: str = "averaged") -> dict[str, Any]:
        """The variables to evaluate: the averaged ones where there are any, unless "raw"."""
        if self.ema and weights != "raw":
            return self.ema
        params = averaged(self.opt_state, self.params)
        return {"params": params, "batch_stats": self.batch_stats}


def init_variables(key: jax.Array, *, model: nn.Module, image_size: int) -> dict[str, Any]:
    """Random params and first batch_stats of a model. Pure.

    Args:
      key: of the run.
      model: of the run.
      image_size: height and width in pixels.
    """
    image = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = model.init(jax.random.split(key)[0], image, train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def init_state(
    key: jax.Array,
    variables: dict[str, Any],
    *,
    optimizer: optax.GradientTransformation,
    ema: bool,
    tuning: Tuning = WHOLE,
) -> TrainState:
    """A fresh state. Pure.

    Args:
      key: of the run; augmentation and dropout get their own from it.
      variables: params and batch_stats, those of `init_variables` or others.
      optimizer: of the run.
      ema: keep averaged weights.
      tuning: which parameters the optimizer has a state for.
    """
    init_key, rng = jax.random.split(key)
    params = tuning.add_lora(variables["params"], jax.random.fold_in(init_key, 1))
    average = {"params": params, "batch_stats": variables["batch_stats"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(tuning.split(params)[0]),
        # A copy: the donated state may not hold the same buffer twice.
        ema=jax.tree.map(jnp.copy, average) if ema else None,
        rng=jax.random.key_data(rng),
    )


def replaced(tree: Any, new: Any) -> Any:
    """A tree of NumPy arrays with those of `new`, which may lack some, in place of its own."""
    if not isinstance(tree, Mapping):
        return np.asarray(new, tree.dtype)
    return {k: replaced(v, new[k]) if k in new else v for k, v in tree.items()}


def state_sha256(state: TrainState) -> str:
    """Hash over params, batch_stats and opt_state: path, dtype, shape and bytes, by path."""
    parts = {"params": state.params, "batch_stats": state.batch_stats, "opt": state.opt_state}
    return sha256(parts)


def sha256(tree: Any) -> str:
    """Hash over arrays: path, dtype, shape and bytes, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    digest = hashlib.sha256()
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = _whole(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _whole(leaf: Any) -> np.ndarray:
    """The array on the host, also if other processes hold parts of it; all have to ask for it."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(jax.device_get(leaf))
    return multihost_utils.process_allgather(leaf, tiled=True)


def different_arrays(found: Any, expected: Any) -> list[str]:
    """What differs between two trees of arrays or their metadata: names, dtypes, shapes."""
    have, want = _array_types(found), _array_types(expected)
    wrong = [f"missing {name} {want[name]}" for name in want if name not in have]
    wrong += [f"unexpected {name} {have[name]}" for name in have if name not in want]
    return wrong + [
        f"{name} is {have[name]}, expected {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]


def _array_types(tree: Any) -> dict[str, str]:
    """{"params/head/bias": "float32 (10,)", ...}"""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    return {
        "/".join(
            str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
        ): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in leaves
    }


def checksum(state: TrainState) -> jax.Array:
    """A uint32 over all bits of the state, whose sum does not depend on order or sharding.

    Cheap enough to be stored with each checkpoint and compared when it is read back.
    """
    total = jnp.zeros((), jnp.uint32)
    for number, leaf in enumerate(jax.tree.leaves(state)):
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        unsigned = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
        bits = jax.lax.bitcast_convert_type(leaf, unsigned).reshape(-1).astype(jnp.uint32)
        place = jnp.arange(bits.size, dtype=jnp.uint32)
        mixed = (bits ^ place * jnp.uint32(2654435761)) * jnp.uint32(2 * number + 2246822519)
        total += jnp.sum(mixed ^ (mixed >> 15), dtype=jnp.uint32)
    return total


def all_finite(state: TrainState) -> jax.Array:
    """Whether no float of the state is NaN or infinite; bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()

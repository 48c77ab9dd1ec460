"""The mesh, and how a pure step becomes one compiled program over all its devices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from imagenet_jax.errors import UserError

DATA_AXIS = "data"


def make_mesh() -> Mesh:
    """A one-dimensional mesh over all devices of all processes.

    Raises:
      UserError: if JAX finds no device of the platform that it was told to use.
    """
    try:
        count = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # jax asserts where a plugin is missing
        raise UserError(
            f"JAX found no devices (JAX_PLATFORMS={jax.config.jax_platforms}). {error} "
            "Unset JAX_PLATFORMS to use the CPU, or install the accelerator's JAX: "
            'pip install "jax[cuda13]" or "jax[tpu]"'
        ) from error
    return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows int64 [b] of a global batch that the devices of this process hold, in order."""
    owned = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in owned]))


def put_batch(host_batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The global batch as sharded arrays, from the rows of each process (`local_rows`)."""
    sharding = batch_sharding(mesh)
    scale = mesh.size // len(mesh.local_devices)

    def put(rows: np.ndarray) -> jax.Array:
        shape = (len(rows) * scale, *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return {name: put(rows) for name, rows in host_batch.items()}


def batch_shapes(batch_size: int, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global batch on the devices."""
    struct = jax.ShapeDtypeStruct
    return {
        "image": struct((batch_size, image_size, image_size, 3), np.uint8),
        "label": struct((batch_size,), np.int32),
        "mask": struct((batch_size,), np.bool_),
        "index": struct((batch_size,), np.int32),
        "epoch": struct((batch_size,), np.int32),
    }


def compile_step(
    step: Callable[..., Any],
    first: Any,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    *,
    mesh: Mesh,
    partitioner: str,
    donate: bool,
    platform: str | None = None,
) -> Callable[..., Any]:
    """Compiles `step(first, batch, axis_name=...)` ahead of time for the devices of the mesh.

    Args:
      step: `step.train_step` or `step.eval_step` with its static arguments bound.
      first: shapes of the replicated first argument, the state or the variables.
      batch: shapes of the global batch, whose leading axis is spread over the devices.
      mesh: the devices.
      partitioner: "jit" leaves the spreading to XLA's partitioner, guided by shardings;
        "shard_map" and "pmap" compile one device's share with explicit collectives.
      donate: whether the first argument's memory is reused for the result.
      platform: to lower for, if the devices are described and not attached: "tpu" or "cuda".

    Returns:
      The compiled program; it takes global arrays and returns replicated ones.
    """
    if partitioner == "jit":
        spread = step
    elif partitioner == "shard_map":
        spread = jax.shard_map(
            partial(step, axis_name=DATA_AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(DATA_AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    else:
        spread = _by_pmap(step, mesh)
    compiled = jax.jit(
        spread,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
        donate_argnums=(0,) if donate else (),
    )
    platforms = (platform,) if platform else None
    return compiled.trace(first, batch).lower(lowering_platforms=platforms).compile()


def all_reduce(tree: Any, axis_name: str) -> Any:
    """The sums of the arrays of a tree over the devices of a mapped axis.

    On GPUs as one vector for each dtype: XLA would reduce arrays of each layout apart, and join
    the others to vectors itself, with a copy kernel for each on the way back.
    """
    return jax.lax.platform_dependent(
        tree,
        cuda=partial(all_reduce_vectors, axis_name=axis_name),
        rocm=partial(all_reduce_vectors, axis_name=axis_name),
        default=lambda tree: jax.lax.psum(tree, axis_name),
    )


def all_reduce_vectors(tree: Any, axis_name: str) -> Any:
    """What `all_reduce` does on GPUs."""
    leaves, structure = jax.tree.flatten(tree)
    reduced: list[jax.Array | None] = [None] * len(leaves)
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [place for place, leaf in enumerate(leaves) if leaf.dtype == dtype]
        vector = jnp.concatenate([leaves[place].ravel() for place in places])
        ends = np.cumsum([leaves[place].size for place in places])
        parts = jnp.split(jax.lax.psum(vector, axis_name), ends[:-1])
        for place, part in zip(places, parts, strict=True):
            reduced[place] = part.reshape(leaves[place].shape)
    return jax.tree.unflatten(structure, reduced)


def _by_pmap(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """pmap wants a leading axis of devices; the result is the same on each and returned once."""
    mapped = jax.pmap(
        partial(step, axis_name=DATA_AXIS),
        axis_name=DATA_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=list(mesh.devices.flat),
    )

    def by_device(array: jax.Array) -> jax.Array:
        return array.reshape(mesh.size, -1, *array.shape[1:])

    return lambda first, batch: mapped(first, jax.tree.map(by_device, batch))

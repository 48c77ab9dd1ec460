"""How a pure step becomes one compiled program over all devices of a mesh."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from imagenet_jax.config.schema import COMPILER_OPTION
from imagenet_jax.devices.sharding import DATA_AXIS, batch_sharding, batch_shards, replicated
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.layers.platforms import GPU, choose, lowering_for, platform_of

# XLA's CPU compiler removes what asks for a result to be stored (`platforms.stored`) before it
# fuses; without this it computes the sums along all shortcuts anew in every block.
_OPTIONS = {"cpu": {"xla_disable_hlo_passes": "cse_barrier_expander"}}


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows int64 [b] of a global batch that the devices of this process hold, in order."""
    owned = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in owned]))


def put_batch(host_batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The global batch as sharded arrays, from the rows of each process (`local_rows`)."""
    sharding = batch_sharding(mesh)
    shards = batch_shards(mesh)
    held = sharding.addressable_devices_indices_map((shards,)).values()
    local = len({index[0].start for index in held})

    def put(rows: np.ndarray) -> jax.Array:
        shape = (len(rows) * shards // local, *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return {name: put(rows) for name, rows in host_batch.items()}


def batch_shapes(
    batch_size: int, image_size: int, fields: Mapping[str, Any], height: int = 0
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global batch on the devices; `fields` are those of a task;
    `height` is that of the views of an image one above the other, 0: image_size."""
    struct = jax.ShapeDtypeStruct
    return {
        "image": struct((batch_size, height or image_size, image_size, 3), np.uint8),
        **{
            name: struct((batch_size, *field.sized(image_size).shape), field.dtype)
            for name, field in fields.items()
        },
        "mask": struct((batch_size,), np.bool_),
        "index": struct((batch_size,), np.int32),
        "epoch": struct((batch_size,), np.int32),
    }


def compile_step(
    step: Callable[..., Any],
    first: Any,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    *fixed: Any,
    mesh: Mesh,
    partitioner: str,
    donate: bool,
    platform: str | None = None,
    options: Sequence[str] = (),
) -> jax.stages.Compiled:
    """Compiles `step(first, batch, *fixed, axis_name=...)` ahead of time for a mesh's devices.

    Args:
      step: `step.train_step` or `step.eval_step` with its static arguments bound.
      first: shapes and shardings of the first argument, the state or the variables.
      batch: shapes of the global batch, whose leading axis is spread over the devices.
      fixed: shapes and shardings of what else it takes, which is never donated.
      mesh: the devices.
      partitioner: "jit" leaves the spreading to XLA's partitioner, guided by shardings;
        "shard_map" and "pmap" compile one device's share with explicit collectives, for
        replicated arguments beside the batch.
      donate: whether the first argument's memory is reused for the result.
      platform: to lower for, if the devices are described and not attached: "tpu" or "cuda".
      options: config.compiler_options.

    Returns:
      The compiled program. It takes global arrays; of what it returns a state is spread as the
      one it takes, all else replicated.

    Raises:
      ConfigError: for an option that XLA does not know or a value that it does not take.
    """
    shardings, others = jax.tree.map(lambda leaf: leaf.sharding, (first, fixed))
    results = replicated(mesh)
    if partitioner == "jit" and donate:
        results = (shardings, results)
    compiled = jax.jit(
        _spread(step, mesh, partitioner, len(fixed)),
        in_shardings=(shardings, batch_sharding(mesh), *others),
        out_shardings=results,
        donate_argnums=(0,) if donate else (),
    )
    platform = platform or platform_of(mesh.devices.flat[0])
    with lowering_for(platform):
        lowered = compiled.trace(first, batch, *fixed).lower(lowering_platforms=(platform,))
    try:
        return lowered.compile(compiler_options=compiler_options(options, mesh.devices.flat[0]))
    except jax.errors.JaxRuntimeError as error:
        if re.search("No such compile option|While setting option|into flag", str(error)):
            raise ConfigError(f"config.compiler_options = {tuple(options)!r}: {error}") from error
        raise


def _spread(
    step: Callable[..., Any], mesh: Mesh, partitioner: str, fixed: int
) -> Callable[..., Any]:
    """`step` over global arrays, with so many arguments after the batch."""
    if partitioner == "jit":
        return step
    if partitioner == "pmap":
        return _by_pmap(step, mesh, fixed)
    return jax.shard_map(
        partial(step, axis_name=DATA_AXIS),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(DATA_AXIS), *[PartitionSpec()] * fixed),
        out_specs=PartitionSpec(),
        check_vma=False,
    )


def compiler_options(
    options: Sequence[str], device: jax.Device
) -> dict[str, bool | int | float | str]:
    """Names and values of those of config.compiler_options that count for a device."""
    chosen = dict(_OPTIONS.get(device.platform, {}))
    for option in options:
        kind, name, value = COMPILER_OPTION.fullmatch(option).groups()
        platform = re.match("xla_(tpu|gpu|cpu)_|", name)[1]
        if kind in (None, device.device_kind) and platform in (None, device.platform):
            try:
                chosen[name] = json.loads(value)  # true and false, numbers
            except ValueError:
                chosen[name] = value
    return chosen


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes of one device while a program runs, its code among them."""
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return peak + memory.generated_code_size_in_bytes


def all_reduce(tree: Any, axis_name: str) -> Any:
    """The sums of the arrays of a tree over the devices of a mapped axis.

    On GPUs as one vector for each dtype: XLA would reduce arrays of each layout apart, and join
    the others to vectors itself, with a copy kernel for each on the way back.
    """
    vectors = partial(all_reduce_vectors, axis_name=axis_name)
    return choose(GPU, vectors, lambda tree: jax.lax.psum(tree, axis_name), tree)


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


def gather_rows(tree: Any, axis_name: str | None) -> Any:
    """The rows [B, ...] that all devices of a mapped axis have, of this one's [b, ...].

    Gradients come back to the device that a row is of, added up over those that looked at it.
    Without an axis these are the rows of all.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda rows: jax.lax.all_gather(rows, axis_name, tiled=True), tree)


def row_numbers(count: int, axis_name: str | None) -> jax.Array:
    """Which rows of the global batch the `count` ones of this device are, int32 [count]."""
    numbers = jnp.arange(count, dtype=jnp.int32)
    return numbers if axis_name is None else numbers + count * jax.lax.axis_index(axis_name)


def _by_pmap(step: Callable[..., Any], mesh: Mesh, fixed: int) -> Callable[..., Any]:
    """pmap wants a leading axis of devices; the result is the same on each and returned once."""
    mapped = jax.pmap(
        partial(step, axis_name=DATA_AXIS),
        axis_name=DATA_AXIS,
        in_axes=(None, 0, *[None] * fixed),
        out_axes=None,
        devices=list(mesh.devices.flat),
    )

    def by_device(array: jax.Array) -> jax.Array:
        return array.reshape(mesh.size, -1, *array.shape[1:])

    return lambda first, batch, *rest: mapped(first, jax.tree.map(by_device, batch), *rest)

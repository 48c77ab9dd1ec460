"""How a run is spread: the mesh that config.sharding describes, and a place for every array."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from imagenet_jax.config.axes import AXES, DATA_AXIS, FSDP_AXIS, TENSOR_AXIS, parse_sharding
from imagenet_jax.errors import ConfigError, UserError

# What is smaller is on every device: to gather it would cost more than it saves.
_SMALLEST_SHARDED = 4096

# Megatron's cut (Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053): the name of a parameter
# and its axis that is spread. The first layer of a pair gives each device some of the hidden
# channels or heads, the second sums over them with one all-reduce.
TENSOR_RULES = (
    (r"mlp\w*/fc1/kernel$", 1),
    (r"mlp\w*/fc1/bias$", 0),
    (r"mlp\w*/fc2/kernel$", 0),
    (r"attn/qkv/kernel$", 1),
    (r"attn/proj/kernel$", 0),
    # Of `heads.embedder`: each device compares with some of the directions.
    (r"class_weights/kernel$", 1),
)


def mesh_shape(text: str, devices: int, slices: int = 1) -> tuple[int, int, int]:
    """Devices along the axes data, fsdp and tensor.

    Args:
      text: config.sharding. What has no number gets the devices that are left, of a slice;
        the axis data gets all that nothing else takes, and the slices. Numbers that leave no
        part of the batch for each slice spread over several of them.
      devices: of the job.
      slices: TPU slices or GPU hosts that are joined by the data centre's network only.

    Raises:
      ConfigError: if the numbers do not fit the devices.
    """
    sizes = parse_sharding(text)
    fixed = {axis: size for axis, size in sizes.items() if size}
    left, rest = divmod(devices, math.prod(fixed.values()))
    if DATA_AXIS in fixed or left % slices:
        slices = 1
    left //= slices  # which go to the axis data
    open_axis = next((axis for axis, size in sizes.items() if not size), DATA_AXIS)
    if DATA_AXIS in fixed and open_axis == DATA_AXIS and left != 1:
        rest = left  # all have numbers, and devices are left over
    if not left or rest:
        raise ConfigError(
            f"config.sharding = {text!r} does not divide the {devices} devices of this job; "
            "'data_parallel' and 'fsdp' fit any number"
        )
    sizes = {**dict.fromkeys(AXES, 1), **fixed}
    if open_axis not in fixed:
        sizes[open_axis] = left
    sizes[DATA_AXIS] *= slices
    return tuple(sizes[axis] for axis in AXES)


def make_mesh(sharding: str = "data_parallel", devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh over devices with the axes data, fsdp and tensor.

    Neighbours along tensor and fsdp are near each other: on one host, or on one slice. Over
    the network between slices goes only what the axis data sends, the sums of gradients.

    Args:
      sharding: config.sharding.
      devices: attached or described ones; None: all of all processes.

    Raises:
      ConfigError: if the sharding does not fit the devices.
      UserError: if JAX finds no device of the platform that it was told to use.
    """
    devices = list(_attached() if devices is None else devices)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    shape = mesh_shape(sharding, len(devices), slices)
    if shape[1:] == (1, 1) or (slices > 1 and shape[0] % slices):
        # A sum over all devices is the same in any order; and this one keeps slices together.
        placed = np.array(devices).reshape(shape)
    elif slices > 1:
        within = (shape[0] // slices, *shape[1:])
        placed = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), devices)
    else:
        placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _attached() -> Sequence[jax.Device]:
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax asserts where a plugin is missing
        raise UserError(
            f"JAX found no devices (JAX_PLATFORMS={jax.config.jax_platforms}). {error} "
            "Unset JAX_PLATFORMS to use the CPU, or install the accelerator's JAX: "
            'pip install "jax[cuda13]" or "jax[tpu]"'
        ) from error


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes over which the batch is spread; along tensor all see the same images."""
    return tuple(axis for axis in mesh.axis_names if axis != TENSOR_AXIS)


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts the batch is divided."""
    return math.prod(mesh.shape[axis] for axis in batch_axes(mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis is spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(batch_axes(mesh)))


def shard_shapes(tree: Any, mesh: Mesh) -> Any:
    """Gives every array of a state, known by its shape, its place on the mesh.

    Over the axis tensor goes what `TENSOR_RULES` name, over the axis fsdp then the longest
    axis that divides, of parameters and of the optimizer's and the average's copies of them.

    Args:
      tree: of jax.ShapeDtypeStruct.
      mesh: the devices.

    Returns:
      The tree with a sharding in every leaf.
    """

    def place(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        spec = _spec(_name(path), leaf.shape, mesh.shape)
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(place, tree)


def place(tree: Any, shapes: Any) -> Any:
    """Arrays on the devices of a mesh, from the same NumPy arrays in every process.

    Args:
      tree: of NumPy arrays; each device gets its part of them only.
      shapes: as of `shard_shapes`.
    """

    def put(array: np.ndarray, shape: jax.ShapeDtypeStruct) -> jax.Array:
        indices = shape.sharding.addressable_devices_indices_map(shape.shape)
        # Copies: a state is donated, and a device that is the CPU keeps what it is given.
        parts = [np.array(array[index]) for index in indices.values()]
        parts = jax.device_put(parts, list(indices))
        return jax.make_array_from_single_device_arrays(shape.shape, shape.sharding, parts)

    return jax.tree.map(put, tree, shapes)


def bytes_per_device(tree: Any) -> int:
    """Bytes that each device holds of arrays, or of shapes with their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def gather_params(params: Any, mesh: Mesh) -> Any:
    """Inside a compiled step: the parameters as the products want them, whole along fsdp.

    Their gradients are spread again as the parameters were. Without it XLA is free to spread
    activations like the parameters instead, and to keep whole gradients.
    """
    if mesh.shape.get(FSDP_AXIS, 1) == 1:
        return params
    sizes = {**mesh.shape, FSDP_AXIS: 1}

    def place(leaf: jax.Array, name: str, sizes: Mapping[str, int]) -> jax.Array:
        spec = PartitionSpec(*_spec(name, leaf.shape, sizes))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    def gather(path: Any, leaf: jax.Array) -> jax.Array:
        name = _name(path)
        gathering = jax.custom_vjp(lambda leaf: place(leaf, name, sizes))
        gathering.defvjp(
            lambda leaf: (place(leaf, name, sizes), None),
            lambda _, gradient: (place(gradient, name, mesh.shape),),
        )
        return gathering(leaf)

    return jax.tree_util.tree_map_with_path(gather, params)


def check_tensor_parallel(params: Any, mesh: Mesh, model: str, heads: int | None) -> None:
    """Raises ConfigError if a model has nothing to spread along the axis tensor."""
    size = mesh.shape.get(TENSOR_AXIS, 1)
    if size == 1:
        return
    paths = jax.tree_util.tree_leaves_with_path(params)
    if not any(TENSOR_AXIS in _spec(_name(path), leaf.shape, mesh.shape) for path, leaf in paths):
        raise ConfigError(
            f"config.sharding: tensor_parallel={size} is for transformers, and config.model.name "
            f"= {model!r} has no layers of theirs; use fsdp"
        )
    if heads and heads % size:
        raise ConfigError(
            f"config.sharding: tensor_parallel={size} does not divide the {heads} heads of {model}"
        )


def _spec(name: str, shape: Sequence[int], sizes: Mapping[str, int]) -> list[str | None]:
    """The mesh axis of each axis of an array."""
    spec: list[str | None] = [None] * len(shape)
    tensor, fsdp = sizes.get(TENSOR_AXIS, 1), sizes.get(FSDP_AXIS, 1)
    for pattern, axis in TENSOR_RULES if tensor > 1 else ():
        # A factor of a second moment may have fewer axes.
        if re.search(pattern, name) and axis < len(shape) and shape[axis] % tensor == 0:
            spec[axis] = TENSOR_AXIS
    if fsdp > 1 and math.prod(shape) >= _SMALLEST_SHARDED:
        free = [axis for axis, taken in enumerate(spec) if not taken and shape[axis] % fsdp == 0]
        if free:
            spec[max(free, key=lambda axis: (shape[axis], axis))] = FSDP_AXIS
    return spec


def _name(path: Any) -> str:
    keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path)
    return "/".join(map(str, keys))

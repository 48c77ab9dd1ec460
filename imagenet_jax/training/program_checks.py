"""What is wrong with a config for given devices, as far as it shows without data."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
from flax.errors import FlaxError
from jax.sharding import Mesh

from imagenet_jax.augment.geometry import lines_kept
from imagenet_jax.config.stages import config_stages
from imagenet_jax.data.names import train_size
from imagenet_jax.devices import sharding
from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.tasks.table import make_task
from imagenet_jax.tasks.views import view_side
from imagenet_jax.training.checks import check_fields, validate_batch
from imagenet_jax.training.program import traced_variables
from imagenet_jax.training.rules import path_of


def check_config(config: ml_collections.ConfigDict, mesh: Mesh, *, training: bool = True) -> None:
    """Finds what is wrong with a config before data is opened or anything is compiled.

    Args:
      config: see `schema.SCHEMA`.
      mesh: the devices.
      training: whether batch_size has to divide by the devices.

    Raises:
      ConfigError: for a field, a value or a model that does not exist, or a batch that does
        not divide by the devices.
    """
    check_fields(config)
    model = make_task(config).model()
    _check_channels(config, model)
    for stage in config_stages(config) if training else ():
        validate_batch(stage.config, sharding.batch_shards(mesh))
        _check_train_size(stage.config, model)
        _check_local_size(stage.config, model)
    _check_scales(config, model)
    _check_sharding(config, model, mesh)
    if config.partitioner == "pmap" and jax.process_count() > 1:
        raise ConfigError(
            f"config.partitioner = 'pmap' works in one process, this job has "
            f"{jax.process_count()}; use jit or shard_map"
        )


def _check_channels(config: ml_collections.ConfigDict, model: nn.Module) -> None:
    """Raises ConfigError for layers of config.model.channels that do not exist or do not fit."""
    channels = config.model.channels
    if not channels:
        return
    try:
        params = traced_variables(model, config.data.image_size)[1]["params"]
    except (AssertionError, TypeError, ValueError, FlaxError) as error:
        said = "".join(f": {line}" for line in str(error).splitlines()[:1])
        raise ConfigError(
            "config.model.channels: the layers do not fit together, as what is added up needs the "
            f"same channels, and a depthwise convolution as many as it gets{said}"
        ) from error
    kernels = {
        "/".join(path_of(path)[:-1]): leaf.shape[-1]
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path_of(path)[-1] == "kernel"
    }
    for entry in channels:
        layer, _, count = entry.rpartition("=")
        found = [path for path in kernels if path == layer or path.endswith(f"/{layer}")]
        if not found:
            raise ConfigError(
                f"config.model.channels = '{entry}': {config.model.name} has no layer {layer!r}"
                f"{did_you_mean(layer, kernels)}"
            )
        if all(kernels[path] != int(count) for path in found):
            raise ConfigError(
                f"config.model.channels = '{entry}': that layer of {config.model.name} has "
                f"{kernels[found[0]]} outputs, which follow from other layers"
            )


def _check_train_size(config: ml_collections.ConfigDict, model: nn.Module) -> None:
    """Raises ConfigError if the parameters of a model are for images of one size only."""
    sizes = config.data.image_size, lines_kept(train_size(config.data), config.augment.colout)
    if sizes[0] == sizes[1]:
        return
    one, two = (traced_variables(model, size)[1]["params"] for size in sizes)
    if jax.tree.map(jnp.shape, one) != jax.tree.map(jnp.shape, two):
        raise ConfigError(
            f"config.model.name = {config.model.name!r} has parameters for images of one size, as "
            f"learnt positions are: in training they have {sizes[1]} pixels a side "
            f"(data.train_size, augment.colout), in evaluation {sizes[0]} (data.image_size)"
        )


def _check_local_size(config: ml_collections.ConfigDict, model: nn.Module) -> None:
    """Raises ConfigError if a model for whole crops cannot see the small ones."""
    data = config.data
    if not data.local_crops:
        return
    image = jax.ShapeDtypeStruct((1, data.local_size, data.local_size, 3), jnp.float32)
    _, variables = traced_variables(model, data.image_size)
    try:
        jax.eval_shape(partial(model.apply, train=False), variables, image)
    except (ArithmeticError, TypeError, ValueError, FlaxError) as error:
        raise ConfigError(
            f"config.model.name = {config.model.name!r} cannot see crops of config.data.local_size "
            f"= {data.local_size} pixels beside those of data.image_size = {data.image_size}: take "
            "another size, another model, or config.data.local_crops = 0"
        ) from error


def _check_scales(config: ml_collections.ConfigDict, model: nn.Module) -> None:
    """Raises ConfigError for config.eval.scales that are the same, or that a model cannot see."""
    size, scales = config.data.image_size, tuple(config.eval.scales)
    sides = [view_side(size, scale) for scale in scales]
    shown = f"config.eval.scales = {scales} of images of {size} pixels are {sides} pixels a side"
    if len({*sides}) < len(sides):
        raise ConfigError(f"{shown} (multiples of 32); one of them is there twice")
    if sides == [size]:
        return
    shapes = []
    for side in (size, *sides):
        try:
            variables = traced_variables(model, side)[1]["params"]
        except ConfigError as error:
            raise ConfigError(f"{shown}: {error}") from error
        shapes.append(jax.tree.map(jnp.shape, variables))
    if any(one != shapes[0] for one in shapes):
        raise ConfigError(
            f"{shown}, and config.model.name = {config.model.name!r} has parameters for images of "
            "one size, as learnt positions are"
        )


def _check_sharding(config: ml_collections.ConfigDict, model: nn.Module, mesh: Mesh) -> None:
    """Raises ConfigError if config.sharding asks for what the partitioner or model cannot do."""
    axes = (sharding.FSDP_AXIS, sharding.TENSOR_AXIS)
    if all(mesh.shape.get(axis, 1) == 1 for axis in axes):
        return
    if config.partitioner != "jit":
        raise ConfigError(
            f"config.sharding = {config.sharding!r} needs config.partitioner = 'jit'; "
            f"{config.partitioner} keeps the whole state on every device"
        )
    params = traced_variables(model, config.data.image_size)[1]["params"]
    heads = getattr(model, "heads", None)
    sharding.check_tensor_parallel(params, mesh, config.model.name, heads)

"""Post-training quantization: the ranges of a trained network's int8, and which layers hurt."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.deploy import samples
from imagenet_jax.deploy.comparison import Outputs, compared, in_parts
from imagenet_jax.deploy.program import plain_form, program_of, with_network
from imagenet_jax.errors import ConfigError, DataError, ExportError
from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.layers.quantized import (
    RANGES,
    check_skip,
    is_range,
    rounded_layers,
    told_of_rounded,
)
from imagenet_jax.tasks.table import task_split
from imagenet_jax.terminal import say
from imagenet_jax.training.trained import TrainedModel

_AT_ONCE = 16  # images
_CALIBRATION = 128  # images on which ranges are found


def calibration_images(trained: TrainedModel, most: int = _CALIBRATION) -> tuple[np.ndarray, str]:
    """Some training images as the model sees them in evaluation, and what they are.

    They are drawn at random, the same each time; of the evaluation split where there is no
    training split, and the two photos that come with scikit-learn where there are no data.

    Returns:
      uint8 [N, S, S, 3], N at most `most`.
    """
    config = trained.config.copy_and_resolve_references()
    config.data.cache = False  # a few of them are looked at
    for train in (True, False):
        try:
            split = task_split(config, train)
        except DataError:
            continue
        chosen = np.random.default_rng(0).permutation(split.num_examples)[:most]
        about = f"{len(chosen)} images of {config.data.name}, {split.name}"
        return dataclasses.replace(split, train=False).images(np.sort(chosen)), about
    return samples.sample_images(config.data.image_size), samples.ABOUT


def quantized(trained: TrainedModel, images: np.ndarray, skip: Sequence[str] = ()) -> TrainedModel:
    """The model as int8 computes it, see `models.layers.quantized`; config.model.quantize says so.

    Args:
      trained: the model, in floating point.
      images: uint8 [N, S, S, 3] as it sees them; the range of what a layer is given goes from the
        least to the most of an image, the means over these.
      skip: see config.model.quantize_skip.

    Raises:
      ConfigError: if no layer is left to quantize, or a pattern finds none to skip.
    """
    found = with_network(trained, quantize="int8", quantize_skip=tuple(skip))
    check_skip(skip, trained.variables["params"], trained.name)
    shapes = variable_shapes(found.model, trained.config.data.image_size)
    stats = shapes.get("batch_stats", {})
    if not rounded_layers(stats):
        raise ConfigError(
            f"config.model.quantize_skip = {tuple(skip)!r} leaves no layer of {trained.name} that "
            "could be quantized"
        )
    say(f"int8: {told_of_rounded(shapes)}")
    stats = _merged(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), stats),
        trained.variables.get("batch_stats", {}),
    )
    variables = {**trained.variables, "batch_stats": stats}
    found = dataclasses.replace(found, variables=variables)
    ranges = jax.tree.map(np.mean, _extremes(found, images))
    variables = {**variables, "batch_stats": _merged(stats, ranges)}
    return dataclasses.replace(found, variables=variables)


def _extremes(trained: TrainedModel, images: np.ndarray) -> dict[str, Any]:
    """What its layers are given, least and most, by each image, {LAYER: {low, high: [N]}}, nested
    as batch_stats; of layers that are given parts of images by each of those."""
    task = trained.task

    @jax.jit
    def seen(variables: Any, images: jax.Array) -> Any:
        apply = partial(trained.model.apply, variables, train=False, mutable=[RANGES])
        found: list[Any] = []

        def noted(inputs: jax.Array) -> Any:
            outputs, changed = apply(inputs)
            found.append(changed.get(RANGES, {}))
            return outputs

        task.predict(noted, task.image_inputs(images))
        return jax.tree.map(lambda *views: jnp.concatenate(views), *found)

    variables = jax.tree.map(jnp.asarray, trained.variables)
    starts = range(0, len(images), _AT_ONCE)
    parts = [jax.device_get(seen(variables, images[k : k + _AT_ONCE])) for k in starts]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def sensitivity(trained: TrainedModel, images: np.ndarray) -> list[dict[str, Any]]:
    """What each layer does to the answers when it is the only one in int8.

    Args:
      trained: of `quantized`.
      images: uint8 [N, S, S, 3].

    Returns:
      layer; difference: of the outputs, its root mean square over that of the outputs, or the share
      of the pixels whose class is another one; changed: images of which a decision is, see
      `comparison.compared`. The worst ones first. Of a detector boxes are looked at before
      suppression; of one that suppresses amid the network, none, which is said.
    """
    several, rules = trained.config.task == "multilabel", {}
    try:
        trained, rules = plain_form(trained), trained.task.suppressions()
    except ExportError:
        say("no layer is tried alone: this network orders boxes by their scores on the way")
        return []
    variables = jax.device_get(trained.variables)
    compiled = jax.jit(program_of(trained))

    def outputs(layer: str) -> Outputs:
        given = _only(variables, layer)
        return in_parts(lambda part: jax.device_get(compiled(given, part)), images, _AT_ONCE)

    ours, rows = outputs(""), []
    for layer in rounded_layers(variables["batch_stats"]):
        theirs = outputs(layer)
        row = {"layer": layer, "difference": _apart(ours, theirs)}
        rows.append(row | {"changed": compared(ours, theirs, several, rules=rules).changed})
    return sorted(rows, key=lambda row: -row["difference"])


def _only(variables: dict[str, Any], layer: str) -> dict[str, Any]:
    """The variables with an empty range of each other layer, which is not rounded then."""

    def of(path: Any, leaf: Any) -> Any:
        names = [key.key for key in path]
        other = is_range(names) and "/".join(names[:-2]) != layer
        return np.zeros_like(leaf) if other else leaf

    stats = jax.tree_util.tree_map_with_path(of, variables["batch_stats"])
    return jax.tree.map(jnp.asarray, {**variables, "batch_stats": stats})


def _apart(ours: Outputs, theirs: Outputs) -> float:
    """The root mean square of the difference of floating-point outputs, over that of the outputs;
    where there are none, the share of the others, classes of pixels, that differ."""
    floats = [name for name, array in ours.items() if array.dtype.kind == "f"]
    if not floats:
        return float(np.mean([np.mean(array != theirs[name]) for name, array in ours.items()]))
    apart = sum(float(np.square(ours[name] - theirs[name]).sum()) for name in floats)
    scale = sum(float(np.square(ours[name]).sum()) for name in floats)
    return float(np.sqrt(apart / max(scale, 1e-30)))


def _merged(tree: Any, new: Any) -> Any:
    """A tree with the leaves of `new`, which may lack some, in place of its own."""
    if not isinstance(tree, dict):
        return new
    return {key: _merged(value, new[key]) if key in new else value for key, value in tree.items()}

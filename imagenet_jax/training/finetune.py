"""Where a run starts from: pretrained weights, a file, or another run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from imagenet_jax.config import model_options
from imagenet_jax.errors import WeightsError
from imagenet_jax.models.detection.detector import Detector
from imagenet_jax.models.heads.embedder import Embedder
from imagenet_jax.models.heads.segmenter import Segmenter
from imagenet_jax.tasks.classes import class_facts
from imagenet_jax.training.program import Program
from imagenet_jax.training.trained import trained_model
from imagenet_jax.weights.adapt import BACKBONE, adapt, as_backbone
from imagenet_jax.weights.detectors import load_detector
from imagenet_jax.weights.embedders import load_embedder
from imagenet_jax.weights.load import Loaded, load_file, load_pretrained
from imagenet_jax.weights.networks import NETWORKS, Network, check_network, network_file
from imagenet_jax.weights.pretrained import FILE_SUFFIXES, find_pretrained, pretrained_start
from imagenet_jax.weights.segmenters import load_segmenter


def starting_variables(program: Program) -> dict[str, Any] | None:
    """The variables that config.finetune.weights names; None if it is "".

    The head is taken over where the facts of the task are the same, as the classes; otherwise it
    is new, and a line of the log says why.

    Raises:
      ConfigError: for weights of another architecture, or names that do not exist.
      WeightsError, CheckpointError: if they cannot be fetched or read, or do not fit.
    """
    config = program.config
    name, model_name = config.finetune.weights, config.model.name
    if not name:
        return None
    if name in NETWORKS:
        check_network(name, config)
        weights, name = NETWORKS[name], str(network_file(name))
    else:
        weights = pretrained_start(name, model_name) if _is_named(name) else None
    norms = (config.augment.mean, config.augment.std)
    if weights and not np.allclose((weights.mean, weights.std), norms):
        logging.warning(
            "config.augment.mean and std are not those of %s, %s and %s: expect worse results",
            *(weights.name, weights.mean, weights.std),
        )
    options = model_options(config)
    embeddings = _embedder_in_file(name, program)
    if embeddings:
        logging.info("config.finetune.weights = %r: embeddings are taken over", name)
        return embeddings
    found = _network_in_file(name, program)
    if found:
        variables, facts = found.variables, class_facts(found.class_names)
        if isinstance(weights, Network):
            variables = weights.variances(variables, config.model.bn_epsilon or 1e-5)
    else:
        variables, facts = trained_variables(name, model_name, options, may_lack_head=True)
    if _is_backbone(variables, program):
        try:
            return as_backbone(variables, program.model, config.data.image_size)
        except WeightsError as error:
            raise WeightsError(f"config.finetune.weights = {name!r}: {error}") from error
    reason = _why_new(facts, program.task.facts())
    if reason:
        logging.warning("config.finetune.weights = %r: the head is new, as %s", name, reason)
    else:
        logging.info("config.finetune.weights = %r: the head is taken over", name)
    try:
        return adapt(variables, program.model, config.data.image_size, new_head=bool(reason))
    except WeightsError as error:
        raise WeightsError(f"config.finetune.weights = {name!r}: {error}") from error


def _embedder_in_file(name: str, program: Program) -> dict[str, Any] | None:
    """The variables of a file of embeddings, for a run that learns some."""
    path = _file(name)
    if not path or not isinstance(program.model, Embedder):
        return None
    return load_embedder(path, program.model, program.config.data.image_size)


def _network_in_file(name: str, program: Program) -> Loaded | None:
    """The weights of a file for the whole network of a run, where that is more than a backbone."""
    path = _file(name)
    if not path:
        return None
    if isinstance(program.model, Detector):
        return load_detector(path, program.model)
    return load_segmenter(path, program.model) if isinstance(program.model, Segmenter) else None


def _is_backbone(variables: dict[str, Any], program: Program) -> bool:
    """Whether these are a classifier's, for a network with another head on its maps."""
    shapes = program.state_shapes().params
    return BACKBONE in shapes and BACKBONE not in variables["params"]


def _file(name: str) -> Path | None:
    """The file of that name, if it is one of weights."""
    path = Path(os.path.expanduser(name))
    return None if path.is_dir() or path.suffix not in FILE_SUFFIXES else path


def _is_named(name: str) -> bool:
    path = Path(os.path.expanduser(name))
    return not path.is_dir() and path.suffix not in FILE_SUFFIXES


def trained_variables(
    name: str,
    model_name: str,
    options: Mapping[str, Any] | None = None,
    *,
    may_lack_head: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables as NumPy arrays, and what is known of their outputs, as `Task.facts` has it.

    Args:
      name: of pretrained weights, of a file, or the working directory of a run, whose best
        checkpoint counts.
      model_name, options: of a file, see `load_file`.
      may_lack_head: take a file without the last layer.

    Raises:
      ConfigError, WeightsError, CheckpointError: if they are not known, cannot be fetched or
        read, or do not fit.
    """
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        source = trained_model(path, "best")
        return jax.device_get(source.variables), source.task.facts()
    if path.suffix in FILE_SUFFIXES:
        found = load_file(path, model_name, may_lack_head=may_lack_head, options=options)
    else:
        found = load_pretrained(find_pretrained(name))
    return found.variables, _facts(found)


def _facts(found: Loaded) -> dict[str, Any]:
    """What is known of the outputs of weights."""
    return class_facts(found.known_classes) if found.known_classes else {}


def _why_new(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Why the outputs of weights mean something else than those of the task; "" if they do not."""
    if not theirs:
        return "the weights have none, or do not say what its outputs mean"
    if "learnt_without_labels" in {**theirs, **ours} and theirs != ours:
        return "the weights were learnt without labels, or are to be"
    for name in {**theirs, **ours}:
        mine, other = ours.get(name), theirs.get(name)
        if other == mine:
            continue
        what = name.replace("_", " ")
        if not isinstance(mine, list) or not isinstance(other, list):
            return f"the {what} are not the same"
        if len(mine) != len(other):
            return f"there are {len(other)} {what} there and {len(mine)} here"
        a, b = next((a, b) for a, b in zip(other, mine, strict=True) if a != b)
        return f"the {what} are others or in another order, {a!r} there and {b!r} here"
    return ""

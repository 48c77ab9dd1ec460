"""What is wrong with a config, as far as it shows without JAX, devices and data.

JAX takes a second to import, and a mistake in a name should not cost that much.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.config import model_options, validate
from imagenet_jax.config.semi_fields import SEMI_SUPERVISED, labelled_fields
from imagenet_jax.config.stages import config_stages
from imagenet_jax.data.names import check_data, check_files
from imagenet_jax.data.sources.classes import ONE
from imagenet_jax.errors import ConfigError, UserError
from imagenet_jax.models.facts import FACTS, check_model
from imagenet_jax.reports.tracking import make_tracking
from imagenet_jax.reports.workdir import checkpoints_of
from imagenet_jax.suites.table import check_names, find_suites
from imagenet_jax.tasks.self_supervised_checks import METHODS
from imagenet_jax.tasks.table import check_lists, check_settings, check_task, find_task
from imagenet_jax.training.average_checks import check_averaged_statistics, check_averages
from imagenet_jax.training.feature_checks import check_features
from imagenet_jax.training.optimizer_checks import check_optimizer
from imagenet_jax.training.pruning_checks import check_pruning
from imagenet_jax.weights.networks import NETWORKS, check_network
from imagenet_jax.weights.pretrained import (
    FILE_SUFFIXES,
    check_file,
    find_pretrained,
    pretrained_start,
)


def check_fields(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a field, value, task, model or option that does not exist."""
    validate(config)
    check_task(config.task)
    for stage in config_stages(config):
        check_model(config.model.name, model_options(stage.config))
        _check_views(stage.config)
        check_settings(stage.config)
        _check_ignored(stage.config)
    check_lora(config)
    _check_quantize(config)
    check_optimizer(config)
    check_pruning(config)
    check_averages(config)
    check_features(config)
    _check_tta(config)
    _check_teacher(config)
    check_names(config.eval.suites, config.task)


def _check_ignored(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for changes of colour that nobody would make."""
    change = config.augment
    own = [name for name in ("grayscale", "solarize", "blur") if change[name]]
    if change.three_augment and own:
        raise ConfigError(
            f"config.augment.{own[0]} = {change[own[0]]:g} does not go with three_augment = True, "
            "which makes each image grey, solarized or blurred; set it to 0"
        )
    of_views = [name for name in ("view_blur", "view_solarize") if change[name]]
    if of_views and config.task not in METHODS:
        raise ConfigError(
            f"config.augment.{of_views[0]} = {tuple(change[of_views[0]])} is of the views of "
            f"config.task = {', '.join(METHODS)}, not of {config.task!r}; set it to ()"
        )


def _check_views(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for several views of images where nothing compares them, or not so."""
    views, weight = config.data.views, config.loss.jsd
    if config.task in SEMI_SUPERVISED:  # whose own checks know of views
        return
    if (views > 1) != (weight > 0):
        raise ConfigError(
            f"config.data.views = {views} and config.loss.jsd = {weight} go together: 3 and 12 in "
            "AugMix, or 1 and 0"
        )
    if views == 1:
        return
    other = {
        "augment.mixup": config.augment.mixup > 0,
        "augment.cutmix": config.augment.cutmix > 0,
        "distill.weights": bool(config.distill.weights),
        "loss.name = 'sigmoid'": config.loss.name == "sigmoid",
        f"task = {config.task!r}": config.task != "classification",
        "data.policy = ''": not (config.data.policy or config.data.rotate or config.data.translate),
    }
    if found := [name for name, is_on in other.items() if is_on]:
        raise ConfigError(
            f"config.data.views = {views} does not go with config.{' and config.'.join(found)}"
        )


def check_lora(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for LoRA of a model that has no attention."""
    if config.finetune.mode == "lora" and not FACTS[config.model.name].has_attention:
        raise ConfigError(
            "config.finetune.mode = 'lora' is for transformers, and config.model.name = "
            f"{config.model.name!r} has no attention"
        )


def _check_quantize(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for what does not go with model.quantize, or is of it."""
    model = config.model
    if model.quantize_skip and not model.quantize:
        raise ConfigError(
            f"config.model.quantize_skip = {tuple(model.quantize_skip)!r} is of model.quantize, "
            "which is ''; set 'int8'"
        )
    if model.quantize and model.scan:
        raise ConfigError(
            f"config.model.quantize = {model.quantize!r} does not go with config.model.scan = "
            "True, whose blocks have no ranges of their own; set scan = False"
        )


def _check_teacher(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for what is said of a teacher that is not there."""
    said = [name for name in ("model", "image_size") if config.distill[name]]
    if said and not config.distill.weights:
        raise ConfigError(
            f"config.distill.{said[0]} = {config.distill[said[0]]!r} is of a teacher, and "
            "config.distill.weights = '' names none"
        )


def _check_tta(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for test-time augmentation of a task that has none."""
    if config.eval.tta and not find_task(config.task).averages_views:
        raise ConfigError(
            f"config.eval.tta = {config.eval.tta!r} averages the logits of classes, which "
            f"config.task = {config.task!r} does not have"
        )
    if tuple(config.eval.scales) != (1.0,) and not find_task(config.task).takes_scales:
        raise ConfigError(
            f"config.eval.scales = {tuple(config.eval.scales)} is for detection and segmentation, "
            f"not config.task = {config.task!r}"
        )


def _group_size(config: ml_collections.ConfigDict) -> int:
    """Images whose batch statistics a step computes together; 1 where it computes none."""
    frozen = config.model.frozen_norm or config.finetune.mode == "head"
    has_norms = FACTS[config.model.name].has_batch_norm or find_task(config.task).head_has_norms
    if frozen or not has_norms:
        return 1
    return max(config.model.bn_group_size, 1)


def _read(images: int, config: ml_collections.ConfigDict) -> int:
    """The fewest photos that make whole multiples of so many images of the network."""
    half = any(stage.config.augment.mix_per == "half" for stage in config_stages(config))
    photos = images * (2 if half else 1)
    return photos // math.gcd(photos, config.data.views)


def _mixed_together(config: ml_collections.ConfigDict) -> int:
    """As `augment.rows_together`, at any stage."""
    stages = [stage.config.augment for stage in config_stages(config)]
    mixing = [augment for augment in stages if augment.mixup or augment.cutmix]
    return max((4 if augment.switch_halves else 2 for augment in mixing), default=1)


def batch_unit(config: ml_collections.ConfigDict) -> int:
    """Images by which a device's batch divides: whole micro-batches and whole norm groups."""
    group = _read(_group_size(config), config)
    return config.accumulate * math.lcm(group, _mixed_together(config))


def validate_batch(config: ml_collections.ConfigDict, num_devices: int) -> None:
    """Raises ConfigError unless every device gets whole micro-batches and whole norm groups."""
    group, pair, unit = _group_size(config), _mixed_together(config), batch_unit(config)
    if config.batch_size % (num_devices * unit) == 0:
        return
    parts = "1 device" if num_devices == 1 else f"{num_devices} devices"
    if config.accumulate > 1:
        parts += f" x {config.accumulate} micro-batches (accumulate)"
    if group > 1:
        read = _read(group, config)
        parts += f" x groups of {group} images (model.bn_group_size)"
        parts += f", which {read} make" if read != group else ""
    if pair == 2:
        parts += " x pairs of images (augment.mixup, augment.cutmix)"
    if pair == 4:
        parts += " x two pairs of images (augment.switch_halves)"
    step = num_devices * unit
    below = config.batch_size // step * step
    nearest = f"{below} or {below + step}" if below else f"{step}"
    counts = [str(n) for n in range(1, 4097) if config.batch_size % (n * unit) == 0]
    fits = [f"device counts {', '.join(counts)}"] if counts else []
    if smaller := _smaller_group(config, num_devices):
        fits.append(f"model.bn_group_size = {smaller}")
    raise ConfigError(
        f"config.batch_size = {config.batch_size} does not divide by {parts}; "
        f"the nearest batch_size that does is {nearest}. With this one, "
        f"{' or '.join(fits) or 'no device count'} would do"
    )


def _smaller_group(config: ml_collections.ConfigDict, num_devices: int) -> int:
    """The largest group below bn_group_size by which this batch divides; 0 if there is none."""
    images, rest = divmod(config.batch_size, num_devices * config.accumulate)
    together, sizes = _mixed_together(config), range(_group_size(config) - 1, 1, -1)
    fitting = (n for n in sizes if images % math.lcm(_read(n, config), together) == 0)
    return 0 if rest else next(fitting, 0)


def check_source(config: ml_collections.ConfigDict, *, here: bool) -> None:
    """Finds data that cannot be opened.

    Args:
      config: of the run.
      here: whether it runs on this machine, so that its files must be here.

    Raises:
      ConfigError: for a name of no known form, or fields that contradict each other.
      DataError: if a folder, an archive or a list is missing.
    """
    for stage in config_stages(config):
        check_data(stage.config.data)
    if here:
        check_files(config.data.name)
        check_lists(config)


def check_training(config: ml_collections.ConfigDict, *, here: bool) -> None:
    """Finds what training would refuse before its first step; arguments as of `check_source`.

    Raises:
      ConfigError: as `check_source`, for weights to start from that are not known, or for a
        tracking service whose package is not installed.
      WeightsError, CheckpointError: if the file or the run to start from is missing.
    """
    check_source(config, here=here)
    check_averaged_statistics(config)
    chosen = labelled_fields(config.data)
    for name in ("sampling", "per_class", *chosen):
        if config.data[name] and find_task(config.task).reads != (ONE,):
            raise ConfigError(
                f"config.data.{name} = {config.data[name]!r} needs one label for each image, "
                f"which config.task = {config.task!r} does not have"
            )
    if here:
        find_suites(config.eval.suites, config.data.dir)
        make_tracking(config)
        _check_weights("finetune", config, lambda weights: _find_start(weights, config))
        _check_weights("distill", config, find_pretrained)


def _find_start(weights: str, config: ml_collections.ConfigDict) -> None:
    """Finds published weights of the network or of its backbone. Raises ConfigError."""
    if weights in NETWORKS:
        check_network(weights, config)
    else:
        pretrained_start(weights, config.model.name)


def _check_weights(
    section: str, config: ml_collections.ConfigDict, find: Callable[[str], Any]
) -> None:
    """Finds a run, a file or (by `find`) published weights that are not there."""
    weights = config[section].weights
    path = Path(os.path.expanduser(weights))
    try:
        if weights and path.is_dir():
            checkpoints_of(path)
        elif path.suffix in FILE_SUFFIXES:
            check_file(path)
        elif weights:
            find(weights)
    except UserError as error:
        field, text = f"config.{section}.weights = {weights!r}", str(error)
        raise type(error)(text if text.startswith(field) else f"{field}: {text}") from error

"""Which fields about averaged weights make sense together; as `checks`, without JAX."""

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks.table import LEARN_FROM_AVERAGE


def check_averages(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields of the averages that make no sense together."""
    decay, swa = config.ema_decay, config.swa_start
    if decay and swa:
        raise ConfigError(
            f"config.swa_start = {swa!r} is in place of config.ema_decay = {decay}; set one of them"
        )
    for name, default in (("ema_start", ""), ("ema_ramp", "tensorflow")):
        if config[name] != default and not decay:
            raise ConfigError(
                f"config.{name} = {config[name]!r} needs config.ema_decay, which is 0: no average"
            )
    if config.task in LEARN_FROM_AVERAGE and not decay:
        raise ConfigError(
            f"config.task = {config.task!r} learns from the average of its weights, and "
            "config.ema_decay = 0 keeps none; set it, as to 0.99"
        )
    if config.task in LEARN_FROM_AVERAGE and config.eval.norm_batches:
        raise ConfigError(
            f"config.eval.norm_batches = {config.eval.norm_batches} would estimate statistics from "
            f"the loss of config.task = {config.task!r}, which itself needs averages; set it to 0"
        )
    if config.eval.weights == "both" and not (decay or swa):
        raise ConfigError(
            "config.eval.weights = 'both' needs averaged weights: set config.ema_decay or swa_start"
        )
    _check_statistics(config)


def _check_statistics(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if there are no statistics of BatchNorm that could be estimated."""
    batches, reason = config.eval.norm_batches, ""
    if not FACTS[config.model.name].has_batch_norm:
        reason = f"config.model.name = {config.model.name!r} has none"
    elif config.model.frozen_norm:
        reason = "with config.model.frozen_norm training does not compute them"
    elif config.finetune.mode == "head":
        reason = "with config.finetune.mode = 'head' training does not compute them"
    if batches and reason:
        raise ConfigError(
            f"config.eval.norm_batches = {batches} estimates BatchNorm's statistics, and {reason}"
        )


def check_averaged_statistics(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if a run would estimate statistics of weights that it does not average."""
    batches, weights = config.eval.norm_batches, config.eval.weights
    if batches and not (config.ema_decay or config.swa_start):
        raise ConfigError(
            f"config.eval.norm_batches = {batches} is for averaged weights: set config.ema_decay "
            "or config.swa_start"
        )
    if batches and weights == "raw":
        raise ConfigError(
            f"config.eval.norm_batches = {batches} is for averaged weights, and "
            "config.eval.weights = 'raw' evaluates the others"
        )

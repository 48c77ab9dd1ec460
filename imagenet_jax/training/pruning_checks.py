"""Which fields of pruning make sense together; as `checks`, without JAX."""

import ml_collections

from imagenet_jax.config.prune_fields import PRUNE
from imagenet_jax.errors import ConfigError


def check_pruning(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields of config.prune that make no sense together."""
    prune = config.prune
    if prune.share and prune.pattern:
        raise ConfigError(
            f"config.prune.pattern = {prune.pattern!r} is in place of config.prune.share = "
            f"{prune.share:g}; set one of them"
        )
    for name in ("scope", "begin", "end", "every", "skip"):
        value, default = prune[name], PRUNE[f"prune.{name}"].default
        if value != default and not (prune.share or prune.pattern):
            raise ConfigError(
                f"config.prune.{name} = {value!r} says how, and nothing is pruned; set "
                "config.prune.share or config.prune.pattern"
            )
    if not (prune.share or prune.pattern):
        return
    if prune.pattern and prune.scope != "global":
        raise ConfigError(
            f"config.prune.scope = {prune.scope!r} is of config.prune.share; "
            f"config.prune.pattern = {prune.pattern!r} prunes each group of weights by itself"
        )
    if config.finetune.mode in ("head", "lora"):
        raise ConfigError(
            f"config.prune prunes what is trained, and config.finetune.mode = "
            f"{config.finetune.mode!r} trains no kernel but the head's; take 'full' or 'layerwise'"
        )

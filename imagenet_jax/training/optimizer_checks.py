"""Which fields of the optimizer make sense together; as `checks`, without JAX."""

import re

import ml_collections

from imagenet_jax.config.rules import parse_rule
from imagenet_jax.errors import ConfigError

# Values of optim.decay_coupling, where not all have a meaning.
_COUPLINGS = {
    # The rate is within the momentum of rmsprop and lars, the decay within the ratio of larc.
    **dict.fromkeys(("rmsprop", "lars", "larc"), ("l2",)),
    **{"lamb": ("rate", "l2"), "prodigy": ("rate",)},
}


def check_optimizer(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields of the optimizer that make no sense together."""
    optim, name = config.optim, config.optim.name
    couplings = _COUPLINGS.get(name, ("l2", "rate", "schedule"))
    if optim.decay_coupling not in ("", *couplings):
        raise ConfigError(
            f"config.optim.decay_coupling = {optim.decay_coupling!r} is not possible with "
            f"config.optim.name = {name!r}; '' and {' and '.join(map(repr, couplings))} are"
        )
    decay_stays = name in ("lars", "larc", "prodigy")
    if optim.weight_decay_end >= 0 and (decay_stays or not optim.weight_decay):
        wrong = f"weight_decay = {optim.weight_decay:g}" if not optim.weight_decay else ""
        raise ConfigError(
            f"config.optim.weight_decay_end = {optim.weight_decay_end:g} is not possible with "
            f"config.optim.{wrong or f'name = {name!r}'}; set it to -1, or the other to something "
            "else"
        )
    free = name.startswith("schedule_free")
    if optim.momentum_dtype != "float32" and (free or name == "prodigy"):
        raise ConfigError(
            f"config.optim.momentum_dtype = {optim.momentum_dtype!r} is not possible with "
            f"config.optim.name = {name!r}, whose state loses what bfloat16 cannot hold"
        )
    if free:
        _check_schedule_free(config)
    rated = any(parse_rule(rule).rate is not None for rule in optim.rules)
    if name == "prodigy" and (rated or config.finetune.mode == "layerwise"):
        raise ConfigError(
            "config.optim.name = 'prodigy' estimates one rate for all parameters: it goes neither "
            "with rate=... in config.optim.rules nor with config.finetune.mode = 'layerwise'"
        )


def _check_schedule_free(config: ml_collections.ConfigDict) -> None:
    name, schedule = config.optim.name, config.schedule
    if schedule.name != "constant" or re.search("[1-9]", schedule.cooldown):
        raise ConfigError(
            f"config.optim.name = {name!r} averages instead of a decay of the rate: it needs "
            f"config.schedule.name = 'constant' (now {schedule.name!r}) without a cooldown"
        )
    for averages, none in (("ema_decay", 0), ("swa_start", "")):
        if config[averages]:
            raise ConfigError(
                f"config.{averages} = {config[averages]!r} is not possible with config.optim.name "
                f"= {name!r}, whose evaluated weights are an average; set it to {none!r}"
            )
    if config.eval.weights != "averaged":
        raise ConfigError(
            f"config.eval.weights = {config.eval.weights!r} is not possible with config.optim.name "
            f"= {name!r}: BatchNorm's statistics are those of the averaged weights alone"
        )
    if config.optim.lookahead:
        raise ConfigError(
            f"config.optim.lookahead = {config.optim.lookahead:g} is not possible with "
            f"config.optim.name = {name!r}, which has an average of its own; set it to 0"
        )
    field = "momentum" if name == "schedule_free_sgd" else "b1"
    if not config.optim[field]:
        raise ConfigError(
            f"config.optim.{field} = 0 leaves config.optim.name = {name!r} without its average; "
            "0.9 is usual"
        )

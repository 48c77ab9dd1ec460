"""Optimizers by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import ml_collections
import optax

from imagenet_jax.training.optimizers.adam import (
    scale_by_adafactor,
    scale_by_ademamix,
    scale_by_nadam,
)
from imagenet_jax.training.optimizers.clip import clip_by_unit
from imagenet_jax.training.optimizers.decay import decay_over_time
from imagenet_jax.training.optimizers.lookahead import lookahead
from imagenet_jax.training.optimizers.muon import scale_by_muon, scale_to_adam
from imagenet_jax.training.optimizers.prodigy import prodigy
from imagenet_jax.training.optimizers.schedule_free import schedule_free
from imagenet_jax.training.optimizers.trust import (
    scale_by_larc,
    scale_by_lars,
    scale_by_trust_ratio,
)
from imagenet_jax.training.rules import (
    NO_LAYERS,
    Layers,
    add_decay,
    decay_factors,
    rules_of,
    scale_rates,
)
from imagenet_jax.training.schedules import Schedule

Transformation = optax.GradientTransformation


def make_optimizer(
    optim: ml_collections.ConfigDict,
    schedule: Schedule,
    layers: Layers = NO_LAYERS,
    scale: Transformation | None = None,
    progress: Callable[[Any], Any] = lambda updates: 0.0,
) -> Transformation:
    """What config.optim says: clipping, then the optimizer with its decay, then factors of rates.

    Args:
      optim: see `schema.SCHEMA`.
      schedule: the learning rate by updates done.
      layers: of the model, for what `rules.needs_layers`.
      scale: factors of the updates beside those of optim.rules.
      progress: share of the run that is done after so many updates.
    """
    made = _without_lookahead(optim, schedule, layers, scale, progress)
    if not optim.lookahead:
        return made
    every, power = optim.lookahead_every, optim.lookahead_power
    return lookahead(made, optim.lookahead, every, power, progress)


def _without_lookahead(
    optim: ml_collections.ConfigDict,
    schedule: Schedule,
    layers: Layers,
    scale: Transformation | None,
    progress: Callable[[Any], Any],
) -> Transformation:
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    if optim.agc:
        clip = clip_by_unit(clip, optim.agc, layers)
    update = _update(optim, schedule, layers, progress)
    if any(rule.rate is not None for rule in rules_of(optim)):
        update = scale_rates(update, optim, layers)
    if optim.name.startswith("schedule_free"):
        # The point where it would be without the average has to move by the factors as well.
        update = optax.chain(update, scale) if scale else update
        beta = optim.momentum if optim.name == "schedule_free_sgd" else optim.b1
        return optax.chain(clip, schedule_free(update, schedule, beta))
    update = optax.chain(clip, update)
    return optax.chain(update, scale) if scale else update


def _update(
    optim: ml_collections.ConfigDict,
    schedule: Schedule,
    layers: Layers,
    progress: Callable[[Any], Any],
) -> Transformation:
    """The optimizer with its decay; the order of the parts is that of old checkpoints."""
    factors = partial(decay_factors, optim, layers=layers)
    coupling = optim.decay_coupling or OWN_COUPLING.get(optim.name, "rate")
    peak, weight = optim.learning_rate, optim.weight_decay
    if coupling == "schedule":
        weight = weight / peak if peak else 0.0
    decay, rate = add_decay(optim, weight, layers), optax.scale_by_learning_rate(schedule)
    if optim.weight_decay_end >= 0 and optim.weight_decay:
        decay = decay_over_time(decay, optim.weight_decay_end / optim.weight_decay, progress)
    if optim.name == "prodigy":
        return prodigy(schedule, optim.b1, optim.b2, optim.eps, weight, factors)
    if optim.name == "lars":
        trust = scale_by_lars(weight, factors, optim.trust)
        return optax.chain(trust, rate, _momentum(optim))
    if optim.name == "larc":
        trust = scale_by_larc(weight, factors, optim.trust, schedule)
        return optax.chain(trust, _momentum(optim), rate)
    if optim.name == "rmsprop":
        # The average begins at 1, and the rate is within the momentum, both as in TensorFlow.
        root = optax.scale_by_rms(optim.b2, optim.eps, initial_scale=1.0)
        return optax.chain(decay, root, rate, _momentum(optim, nesterov=False))
    direction = _DIRECTIONS[optim.name](optim, layers)
    if optim.name == "lamb":
        trust = scale_by_trust_ratio(factors)
        first = (decay, direction) if coupling == "l2" else (direction, decay)
        return optax.chain(*first, trust, rate)
    if optim.name == "muon":
        ratio = scale_to_adam(optim.adam_learning_rate / peak if peak else 0.0, layers)
        # A decay that is no part of the rate is no part of the ratio of the rates either.
        parts = (direction, ratio, decay) if coupling == "schedule" else (direction, decay, ratio)
        parts = (decay, direction, ratio) if coupling == "l2" else parts
        return optax.chain(*parts, rate)
    if coupling == "l2":
        return optax.chain(decay, optax.chain(direction, rate))
    return optax.chain(direction, decay, rate)


# What optim.decay_coupling = "" is; "rate" with others.
OWN_COUPLING = dict.fromkeys(("sgd", "rmsprop", "lars", "larc"), "l2")


def _kept(optim: ml_collections.ConfigDict) -> str | None:
    return None if optim.momentum_dtype == "float32" else optim.momentum_dtype


def _momentum(optim: ml_collections.ConfigDict, nesterov: bool | None = None) -> Transformation:
    if not optim.momentum:
        return optax.identity()
    nesterov = optim.nesterov if nesterov is None else nesterov
    return optax.trace(optim.momentum, nesterov, _kept(optim))


def _muon(optim: ml_collections.ConfigDict, layers: Layers) -> Transformation:
    return scale_by_muon(
        optim.momentum,
        optim.nesterov,
        optim.newton_schulz_steps,
        optim.muon_scale,
        (optim.b1, optim.b2, optim.eps),
        layers,
        _kept(optim),
    )


# In which direction the parameters go, before decay and rate.
_DIRECTIONS: dict[str, Callable[[Any, Layers], Transformation]] = {
    "sgd": lambda o, _: _momentum(o),
    "adamw": lambda o, _: optax.scale_by_adam(o.b1, o.b2, o.eps, mu_dtype=_kept(o)),
    "nadamw": lambda o, _: scale_by_nadam(o.b1, o.b2, o.eps, _kept(o)),
    "adafactor": lambda o, _: scale_by_adafactor(o.momentum, o.b2, _kept(o)),
    "lamb": lambda o, _: optax.scale_by_adam(o.b1, o.b2, o.eps, mu_dtype=_kept(o)),
    "lion": lambda o, _: optax.scale_by_lion(o.b1, o.b2, mu_dtype=_kept(o)),
    "muon": _muon,
    "ademamix": lambda o, _: scale_by_ademamix(o.b1, o.b2, o.b3, o.alpha, o.eps, _kept(o)),
    "schedule_free_sgd": lambda o, _: optax.identity(),
    # Adam without its first moment, whose part the average plays.
    "schedule_free_adamw": lambda o, _: optax.scale_by_rms(
        o.b2, o.eps, eps_in_sqrt=False, bias_correction=True
    ),
}

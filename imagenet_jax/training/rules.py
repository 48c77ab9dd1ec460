"""Which parameters decay, and whose rate is another one: patterns and named sets of parameters."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import optax

from imagenet_jax.config.rules import Rule, parse_rule
from imagenet_jax.errors import ConfigError

Path = tuple[str, ...]

_KERNELS = re.compile(r"(^|/)(kernel|lora_[ab])$")
# The arrays of two axes and more that timm's models name in no_weight_decay.
_EMBEDDINGS = re.compile(
    r"(^|/)(pos_embed|(cls|dist|reg|mask)_token|relative_position_bias_table)$"
)


@dataclasses.dataclass(frozen=True)
class Layers:
    """Modules of a model that some optimizers and rules treat in another way.

    Attributes:
      heads: paths of those whose shape depends on the number of classes.
      stem: path of the first one that has a kernel.
    """

    heads: tuple[Path, ...] = ()
    stem: Path | None = None


NO_LAYERS = Layers()


def path_of(keys: Any) -> Path:
    """The names along a path of JAX's."""
    return tuple(getattr(key, "key", str(key)) for key in keys)


def chosen(params: Any, patterns: Sequence[str], layers: Layers = NO_LAYERS) -> Any:
    """True for parameters that one of the patterns finds.

    Args:
      params: a tree of arrays or shapes; None where there is none.
      patterns: regular expressions, looked for in paths as "layer1.0/conv1/kernel"; or sets:
        @all; @kernels (LoRA's among them); @norms: scales and the biases beside them; @biases,
        but not those; @embeddings: of positions, tokens; @head, @stem: all of `layers`. And what
        others decay: @not_norms (torchvision's ResNets, TPU recipes); @torchvision: no norms,
        biases and embeddings (its Swin); @timm: arrays of two axes and more, but no embeddings.
      layers: of the model.

    Returns:
      A tree of bools.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    norms = {path_of(path)[:-1] for path, _ in leaves if path_of(path)[-1:] == ("scale",)}

    def has(pattern: str, path: Path, axes: int) -> bool:
        name = "/".join(path)
        if not pattern.startswith("@"):
            # One by one: a pattern may have flags, groups and numbers of groups of its own.
            return re.search(pattern, name) is not None
        norm = path[:-1] in norms
        bias = path[-1] == "bias" and not norm
        embedding = _EMBEDDINGS.search(name) is not None
        return {
            "@all": True,
            "@kernels": _KERNELS.search(name) is not None,
            "@norms": norm,
            "@biases": bias,
            "@embeddings": embedding,
            "@head": any(path[: len(head)] == head for head in layers.heads),
            "@stem": layers.stem is not None and path[: len(layers.stem)] == layers.stem,
            "@not_norms": not norm,
            "@torchvision": not (norm or bias or embedding),
            "@timm": axes > 1 and not embedding,
        }[pattern]

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: any(has(pattern, path_of(path), leaf.ndim) for pattern in patterns),
        params,
    )


def rules_of(optim: ml_collections.ConfigDict) -> tuple[Rule, ...]:
    """Those of config.optim.rules."""
    return tuple(map(parse_rule, optim.rules))


def needs_layers(config: ml_collections.ConfigDict) -> bool:
    """Whether `Layers` of the model have to be known."""
    optim, prune = config.optim, config.prune
    patterns = [*optim.decayed, *(rule.pattern for rule in rules_of(optim))]
    patterns += prune.skip if prune.share or prune.pattern else ()
    return bool({"@head", "@stem"} & set(patterns)) or optim.name == "muon" or optim.agc > 0


def check_rules(optim: ml_collections.ConfigDict, params: Any, layers: Layers, model: str) -> None:
    """Raises ConfigError for a rule that no parameter of a model follows, or if all are frozen."""
    for text, rule in zip(optim.rules, rules_of(optim), strict=True):
        if not any(jax.tree.leaves(chosen(params, [rule.pattern], layers))):
            raise ConfigError(
                f"config.optim.rules: {rule.pattern!r} of {text!r} finds no parameter of {model}; "
                "they have paths as " + ", ".join("/".join(path) for path in _paths(params)[:3])
            )
    if len(frozen_by_rule(optim, params, layers)) == len(_paths(params)):
        raise ConfigError(f"config.optim.rules = {tuple(optim.rules)!r} freezes all of {model}")


def _paths(params: Any) -> list[Path]:
    return [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def decay_factors(optim: ml_collections.ConfigDict, params: Any, layers: Layers = NO_LAYERS) -> Any:
    """By what config.optim.weight_decay is multiplied for each parameter, a tree of numbers."""
    patterns = ("@all",) if optim.decay_norm_and_bias else optim.decayed
    factors = jax.tree.map(float, chosen(params, patterns, layers))
    return _overridden(factors, optim, "decay", params, layers)


def rate_factors(optim: ml_collections.ConfigDict, params: Any, layers: Layers = NO_LAYERS) -> Any:
    """By what the learning rate is multiplied for each parameter, a tree of numbers."""
    factors = jax.tree.map(lambda leaf: 1.0, params)
    return _overridden(factors, optim, "rate", params, layers)


def _overridden(
    factors: Any, optim: ml_collections.ConfigDict, name: str, params: Any, layers: Layers
) -> Any:
    """The factors as the last rule has them that says something."""
    for rule in rules_of(optim):
        value = getattr(rule, name)
        if value is not None:
            mask = chosen(params, [rule.pattern], layers)
            factors = jax.tree.map(
                lambda hit, old, value=value: value if hit else old, mask, factors
            )
    return factors


def frozen_by_rule(
    optim: ml_collections.ConfigDict, params: Any, layers: Layers
) -> frozenset[Path]:
    """Paths of the parameters that are not trained."""
    patterns = [rule.pattern for rule in rules_of(optim) if rule.frozen]
    mask = chosen(params, patterns, layers)
    leaves = jax.tree_util.tree_leaves_with_path(mask)
    return frozenset(path_of(path) for path, hit in leaves if hit)


def add_decay(
    optim: ml_collections.ConfigDict, weight: float, layers: Layers = NO_LAYERS
) -> optax.GradientTransformation:
    """Adds weight x `decay_factors` x parameter to the updates.

    Its empty state is that of Optax's masked decay, which checkpoints have in their trees.
    """
    state = optax.EmptyState()
    state = state if optim.decay_norm_and_bias else optax.MaskedState(inner_state=state)

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates = jax.tree.map(
            lambda factor, update, param: update + weight * factor * param if factor else update,
            *(decay_factors(optim, params, layers), updates, params),
        )
        return updates, state

    return optax.GradientTransformation(lambda params: state, update)


def scale_rates(
    transformation: optax.GradientTransformation, optim: ml_collections.ConfigDict, layers: Layers
) -> optax.GradientTransformation:
    """What a transformation gives, times `rate_factors`; its state is the same."""

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(updates, state, params)
        factors = rate_factors(optim, updates, layers)
        updates = jax.tree.map(
            lambda factor, update: update if factor == 1 else update * factor, factors, updates
        )
        return updates, state

    return optax.GradientTransformation(transformation.init, update)

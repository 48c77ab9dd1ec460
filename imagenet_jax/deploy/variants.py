"""What `compress` makes of a network: its variants, by structure and share; without JAX."""

import dataclasses
import re
from collections.abc import Collection

import ml_collections

from imagenet_jax.config.prune_fields import parse_pattern
from imagenet_jax.errors import ConfigError

WEIGHTS, CHANNELS, BLOCKS = "weights", "channels", "blocks"
STRUCTURES = f"{WEIGHTS}, {CHANNELS}, {BLOCKS} or N:M as 2:4"
# Those that leave another network, and the option of models that says which.
REMOVED = {CHANNELS: "channels", BLOCKS: "without_blocks"}
IMPORTANCES = ("l2", "l1", "scale")
SCOPES = ("global", "layer")
OWN_SCOPE = {WEIGHTS: "global", CHANNELS: "layer"}
# Of the learning rate: what is rounded is near where it was, and fine-tuned.
_QUANTIZED_RATE = 0.1


@dataclasses.dataclass(frozen=True)
class Variant:
    """A smaller form of a network.

    Attributes:
      structure: what goes: "weights", "channels", "blocks", or of each M weights all but N, "N:M";
        "": none.
      share: of the weights, channels or blocks that go.
      quantize: see config.model.quantize; "": not at all.
    """

    structure: str
    share: float
    quantize: str = ""

    @property
    def base(self) -> "Variant | None":
        """What is quantized: another variant, or, None, the whole network; else None, too."""
        return Variant(self.structure, self.share) if self.quantize and self.structure else None

    @property
    def name(self) -> str:
        """What people call it."""
        share = f"{self.share:g}" if self.structure in (WEIGHTS, *REMOVED) else ""
        return " ".join(filter(None, (self.structure, share, self.quantize)))

    @property
    def prunes_weights(self) -> bool:
        """Whether weights become zero in the run in which it recovers."""
        return self.structure not in ("", *REMOVED) and not self.quantize

    @property
    def folder(self) -> str:
        """Of its run."""
        return self.name.replace(" ", "-").replace(":", "-of-")


def parse_variants(structures: str, shares: str, quantize: str = "") -> list[Variant]:
    """Those of --structure=A,B and --prune=0.5,0.8: each structure with each share.

    With --quantize=int8 the whole network and each of these in int8 too, behind what they are made
    of. Without a structure weights go, if there is a share or nothing is quantized.

    Raises:
      ConfigError: for what is neither, or shares where only N:M is pruned.
    """
    pruned = []
    if structures or shares or not quantize:
        pruned = _pruned(structures or WEIGHTS, shares)
    if not quantize:
        return pruned
    pairs = ((one, dataclasses.replace(one, quantize=quantize)) for one in pruned)
    return [Variant("", 0.0, quantize), *(variant for pair in pairs for variant in pair)]


def _pruned(structures: str, shares: str) -> list[Variant]:
    found = list(dict.fromkeys(filter(None, map(str.strip, structures.split(",")))))
    patterns = {}
    for structure in found:
        if structure not in (WEIGHTS, *REMOVED):
            try:
                kept, group = parse_pattern(structure)
            except ValueError:
                text = f"--structure={structures}; expected one or more of {STRUCTURES}"
                raise ConfigError(text) from None
            patterns[structure] = 1 - kept / group
    parsed = _shares(shares) if shares else []
    others = [structure for structure in found if structure not in patterns]
    if not found:
        raise ConfigError(f"--structure={structures}; expected one or more of {STRUCTURES}")
    if others and not parsed:
        raise ConfigError(f"--structure={others[0]} needs a share, as in --prune=0.5 or 0.5,0.8")
    if parsed and not others:
        raise ConfigError(f"--prune={shares} does not go with --structure={structures} alone")
    variants = []
    for structure in found:
        of = [patterns[structure]] if structure in patterns else parsed
        variants += [Variant(structure, share) for share in of]
    return variants


def _shares(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < share < 1 for share in found):
        raise ConfigError(f"--prune={text}; expected shares above 0 and below 1, as in 0.5,0.8")
    return list(dict.fromkeys(found))


def config_of(
    variant: Variant,
    config: ml_collections.ConfigDict,
    *,
    scope: str = "",
    duration: str = "",
    teacher: str = "",
    skip: Collection[str] = (),
    said: Collection[str] = (),
) -> ml_collections.ConfigDict:
    """The config of the run in which a variant recovers, but for what of the network is left.

    Args:
      variant: what goes.
      config: of the network that is pruned or quantized.
      scope: of `SCOPES`; "": see `OWN_SCOPE`.
      duration: of the run; "": none, and what is pruned stays so in one that goes on from there.
      teacher: see config.distill.weights; "": as it is.
      skip: see config.model.quantize_skip.
      said: fields that somebody has set for it. Other durations of the schedule become shorter, or
        longer, as the run does, where all are in epochs.
    """
    config = config.copy_and_resolve_references()
    config.finetune.update(weights="", mode="full")  # the start is a checkpoint of the run itself
    if duration:
        _scale_schedule(config, duration, said)
        config.duration = duration
    if teacher:
        config.distill.weights = teacher
    if variant.quantize:
        config.model.update(quantize=variant.quantize, quantize_skip=tuple(skip))
        for name in ("learning_rate", "adam_learning_rate"):
            if f"optim.{name}" not in said:
                config.optim[name] *= _QUANTIZED_RATE
    if variant.prunes_weights:
        share = variant.structure == WEIGHTS
        config.prune.share = variant.share if share else 0.0
        config.prune.pattern = "" if share else variant.structure
        config.prune.scope = (scope or OWN_SCOPE[WEIGHTS]) if share else "global"
        if config.prune.every == "100 steps":  # which may be much of a short run
            config.prune.every = "1 percent"
    active = config.prune.share or config.prune.pattern
    if active and not (variant.prunes_weights and duration):
        config.prune.begin = config.prune.end = "0 steps"  # zeros that are there stay
    return config


_EPOCHS = re.compile(r"([0-9._]+) *epochs?")


def _scale_schedule(
    config: ml_collections.ConfigDict, duration: str, said: Collection[str]
) -> None:
    """Gives the durations of config.schedule the share of the run that they had."""
    old, new = (_EPOCHS.fullmatch(text.strip()) for text in (config.duration, duration))
    if not old or not new:
        return
    ratio = float(new[1]) / float(old[1])

    def scaled(text: str) -> str:
        epochs = _EPOCHS.fullmatch(text.strip())
        return f"{float(epochs[1]) * ratio:.6g} epochs" if epochs and ratio != 1 else text

    for name in ("warmup", "hold", "cooldown", "timescale"):
        if f"schedule.{name}" not in said:
            config.schedule[name] = scaled(config.schedule[name])
    if "schedule.boundaries" not in said:
        config.schedule.boundaries = tuple(map(scaled, config.schedule.boundaries))

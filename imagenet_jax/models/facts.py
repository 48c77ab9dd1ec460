"""What is known of the models without making them: names, options, size, reference accuracy.

The data is in models.csv, one line per model.
"""

import csv
import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from imagenet_jax.errors import ConfigError, did_you_mean

# The attributes of `layers.Layers`, which every model takes but for those of `_lacks`.
LAYER_OPTIONS = (
    *("dtype", "bn_group_size", "bn_momentum", "bn_epsilon", "axis_name", "fused_norm"),
    *("tanh_gelu", "fast_variance", "remat", "frozen_norm", "head_bias", "head_std"),
    *("conv_init", "bn_init", "uniform_drop_path", "channels", "without_blocks"),
    *("quantize", "quantize_skip"),
)
# Families whose blocks know their names, and so which of `layers.Layers.channels` are theirs.
_TAKE_CHANNELS = ("resnet", "vgg", "mobilenet", "efficientnet")
# Families of residual blocks, `layers.residual.Residual`, which a network can do without.
_RESIDUAL = (
    *("resnet", "mobilenet", "efficientnet", "convnext", "regnet", "vit", "swin", "mixer"),
    *("bit", "nfnet", "inception_resnet", "mobilefacenet"),
)
# Families with batch normalisation in each of their models.
_BATCH_NORM = (
    *("airbench", "googlenet", "inception", "resnet", "densenet", "mobilenet", "efficientnet"),
    *("regnet", "darknet", "inception_resnet", "mobilefacenet"),
)
# Families whose last layer has no bias.
_WITHOUT_HEAD_BIAS = ("airbench", "inception_resnet", "mobilefacenet")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a model.

    Attributes:
      name: in the table.
      params: parameters with 1000 classes, auxiliary heads included (those of 32 pixels: 10).
      gmacs: 10^9 multiply-adds of the linear and convolutional layers and of attention, for one
        image of image_size, auxiliary heads excluded.
      image_size: height and width in pixels that the reference weights are evaluated at.
      top1: accuracy in percent on ImageNet's validation set, or None.
      source: the weights and the publication that top1 is of.
      reference: the torch implementation with the same parameters, "LIBRARY NAME", or "".
      family: the file of imagenet_jax/models that makes it.
      options: what can be chosen beside LAYER_OPTIONS, as in config.model.
    """

    name: str
    params: int
    gmacs: float
    image_size: int
    top1: float | None
    source: str
    reference: str
    family: str
    options: tuple[str, ...]

    @property
    def has_attention(self) -> bool:
        """Whether it is a transformer."""
        return self.family in ("vit", "swin")

    @property
    def patch(self) -> int:
        """Height and width in pixels of a ViT's patches, as its name ends with them; else 0."""
        digits = re.search(r"\d+$", self.name.removesuffix("_distilled"))
        return int(digits[0]) if digits and self.family == "vit" else 0

    @property
    def has_batch_norm(self) -> bool:
        """Whether images of a batch are normalised together in training."""
        return self.family in _BATCH_NORM or self.name.endswith("_bn")


def _read_facts() -> dict[str, Facts]:
    with (Path(__file__).parent / "models.csv").open(newline="") as file:
        return {
            row["name"]: Facts(
                row["name"],
                int(row["params"]),
                float(row["gmacs"]),
                int(row["image_size"]),
                float(row["top1"]) if row["top1"] else None,
                row["source"],
                row["reference"],
                row["family"],
                tuple(row["options"].split()),
            )
            for row in csv.DictReader(file)
        }


FACTS = _read_facts()


def check_model(name: str, options: Iterable[str] = ()) -> None:
    """Finds a model's name or options that do not exist.

    Raises:
      ConfigError: with the nearest that does.
    """
    if name not in FACTS:
        raise ConfigError(f"there is no model {name!r}{_nearest(name, FACTS)}")
    facts = FACTS[name]
    known = [option for option in (*facts.options, *LAYER_OPTIONS) if not _lacks(facts, option)]
    for option in options:
        if option == "without_blocks" and option not in known:
            raise ConfigError(
                f"model {name} has no residual blocks that it could do without (without_blocks); "
                f"models of the families {', '.join(_RESIDUAL)} have"
            )
        if option not in known:
            raise ConfigError(f"model {name} has no option {option!r}{_nearest(option, known)}")


def _lacks(facts: Facts, option: str) -> bool:
    """Whether an option is of layers that the model does not have."""
    if option == "uniform_drop_path":
        return "drop_path" not in facts.options
    if option == "bn_init":
        return not facts.has_batch_norm
    if option == "head_bias":
        return facts.family in _WITHOUT_HEAD_BIAS
    if option == "channels":
        return facts.family not in _TAKE_CHANNELS
    if option == "without_blocks":
        return facts.family not in _RESIDUAL
    return option == "conv_init" and facts.family in ("bit", "nfnet")  # standardised kernels


def _nearest(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f"; there are {', '.join(known)}"

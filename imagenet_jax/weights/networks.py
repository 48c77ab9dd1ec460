"""torchvision's detectors and segmenters whose weights are known by name."""

import csv
import dataclasses
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.errors import ConfigError
from imagenet_jax.weights.download import fetch


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that was trained on COCO.

    Attributes:
      name: torchvision's.
      task, head, model: as in config.task, config.model.head and config.model.name.
      params: as torchvision counts them, without those of its FrozenBatchNorm.
      gmacs: 10^9 multiply-adds of an image, as on torchvision's pages.
      score: there, in percent: AP of boxes on COCO's validation images, or the mean IoU of Pascal
        VOC's classes on them.
      mask_score: AP of masks, or None.
      url, sha256: of the file, and the first digits of its checksum.
      mean, std: of the images, fields of config.augment.
      bn_epsilon: of its frozen norms, which torchvision changes with these weights; or None.
    """

    name: str
    task: str
    head: str
    model: str
    params: int
    gmacs: float
    score: float
    mask_score: float | None
    url: str
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bn_epsilon: float | None

    def variances(self, variables: dict[str, Any], epsilon: float) -> dict[str, Any]:
        """Variables of the file, for norms that add `epsilon` to the variance."""
        if self.bn_epsilon is None:
            return variables
        statistics = _add_to_variances(variables["batch_stats"], self.bn_epsilon - epsilon)
        return variables | {"batch_stats": statistics}


def _add_to_variances(statistics: Mapping[str, Any], number: float) -> dict[str, Any]:
    return {
        name: _add_to_variances(value, number)
        if isinstance(value, Mapping)
        else (value + number if name == "var" else value)
        for name, value in statistics.items()
    }


def _read_table() -> dict[str, Network]:
    kinds = {
        "params": int,
        "gmacs": float,
        "score": float,
        "mask_score": lambda text: float(text) if text else None,
        "mean": lambda text: tuple(map(float, text.split())),
        "std": lambda text: tuple(map(float, text.split())),
        "bn_epsilon": lambda text: float(text) if text else None,
    }
    file = resources.files("imagenet_jax.weights") / "networks.csv"
    with file.open(encoding="utf-8", newline="") as rows:
        found = [{k: kinds.get(k, str)(v) for k, v in row.items()} for row in csv.DictReader(rows)]
    return {row["name"]: Network(**row) for row in found}


NETWORKS = _read_table()


def check_network(name: str, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError if weights of this name are of another network than a config's."""
    one, model = NETWORKS[name], config.model
    if (one.head, one.model) != (model.head, model.name):
        raise ConfigError(
            f"config.finetune.weights = {name!r} are of {one.head} on {one.model}; "
            f"config.model.head is {model.head!r} and config.model.name {model.name!r}"
        )
    if one.head == "ssdlite" and not model.reduced_tail:
        raise ConfigError(f"config.finetune.weights = {name!r} need config.model.reduced_tail=true")


def network_file(name: str) -> Path:
    """The file of weights, which is fetched if need be. Raises WeightsError."""
    return fetch(NETWORKS[name].url, NETWORKS[name].sha256)

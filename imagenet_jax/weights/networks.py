"""torchvision's detectors and segmenters whose weights are known by name.

Where torchvision sets the epsilon of the frozen norms of its first ResNets to 0, it is 1e-5 here.
"""

import csv
import dataclasses
from importlib import resources
from pathlib import Path

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


def _read_table() -> dict[str, Network]:
    kinds = {
        "params": int,
        "gmacs": float,
        "score": float,
        "mask_score": lambda text: float(text) if text else None,
        "mean": lambda text: tuple(map(float, text.split())),
        "std": lambda text: tuple(map(float, text.split())),
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

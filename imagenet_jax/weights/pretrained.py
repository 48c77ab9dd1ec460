"""Named pretrained weights: what there is, where it comes from, and how images get to them."""

import csv
import dataclasses
from pathlib import Path

import ml_collections

from imagenet_jax.config import base_config
from imagenet_jax.errors import ConfigError, WeightsError, did_you_mean
from imagenet_jax.models.facts import FACTS

# Those behind the third are torch's, too; .tar: model_best.pth.tar
FILE_SUFFIXES = (".pth", ".safetensors", ".npz", ".pt", ".bin", ".ckpt", ".tar")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights for 1000 classes of ImageNet.

    Attributes:
      name: MODEL.TAG, the tag as timm has it.
      url: of the file, or pypi:PACKAGE==VERSION/PATH_WITHIN_IT.
      sha256: of the file, as many digits as its publisher states, maybe none.
      license: SPDX identifier, as the publisher states it.
      layout: how the arrays are named, a key of `load.LAYOUTS`.
      image_size, eval_crop, eval_crop_fraction, resize_method: fields of config.data.
      eval_resize: to what the short side is resized, in place of eval_crop_fraction; or 0.
      mean, std: fields of config.augment.
      top1, top5: percent on ImageNet's validation set, as `source` says.
    """

    name: str
    url: str
    sha256: str
    license: str
    layout: str
    image_size: int
    eval_crop: str
    eval_crop_fraction: float
    eval_resize: int
    resize_method: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    top1: float | None
    top5: float | None
    source: str

    @property
    def model(self) -> str:
        """The name of the architecture in the table of models."""
        return self.name.partition(".")[0]

    def apply_preprocessing(self, config: ml_collections.ConfigDict) -> None:
        """Sets the fields that say how images get to the model, as these weights want them.

        What is cut out is a share of the photo, and stays the same at another data.image_size.
        """
        share = self.image_size / self.eval_resize if self.eval_resize else self.eval_crop_fraction
        config.data.update(
            image_size=self.image_size,
            eval_crop=self.eval_crop,
            eval_crop_fraction=share,
            eval_resize=0,
            resize_method=self.resize_method,
            eval_resize_method="",
            resize_antialias=True,
        )
        config.augment.mean, config.augment.std = self.mean, self.std


def _read_table() -> dict[str, Pretrained]:
    kinds = {
        "image_size": int,
        "eval_resize": int,
        "eval_crop_fraction": float,
        "mean": lambda text: tuple(map(float, text.split())),
        "std": lambda text: tuple(map(float, text.split())),
        "top1": lambda text: float(text) if text else None,
        "top5": lambda text: float(text) if text else None,
    }
    with (Path(__file__).parent / "pretrained.csv").open(newline="") as file:
        rows = [{k: kinds.get(k, str)(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return {row["name"]: Pretrained(**row) for row in rows}


PRETRAINED = _read_table()


def weights_of(model: str) -> list[str]:
    """The names of the weights of a model, the default first."""
    return [name for name, weights in PRETRAINED.items() if weights.model == model]


def find_pretrained(name: str) -> Pretrained:
    """The weights called MODEL.TAG, or the default ones of MODEL.

    Raises:
      ConfigError: if there are none, with those that there are.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    model = name.partition(".")[0]
    names = weights_of(model)
    if name == model and names:
        return PRETRAINED[names[0]]
    if names:
        raise ConfigError(f"there are no weights {name!r}; of {model} there are {', '.join(names)}")
    if model in FACTS:
        have = sorted({weights.model for weights in PRETRAINED.values()})
        raise ConfigError(
            f"no pretrained weights of {model} are known; of {', '.join(have)} there are"
        )
    known = [*PRETRAINED, *{weights.model for weights in PRETRAINED.values()}]
    raise ConfigError(f"there is no model {model!r}{did_you_mean(name, known)}")


def pretrained_config(name: str) -> ml_collections.ConfigDict:
    """A config for the evaluation of named weights: their model, and their preprocessing.

    Args:
      name: MODEL.TAG, MODEL for its default weights, or a MODEL without known weights, whose
        preprocessing is torchvision's then.

    Raises:
      ConfigError: if there is no such model.
    """
    config = base_config()
    model = name.partition(".")[0]
    if name != model or weights_of(model):
        find_pretrained(name).apply_preprocessing(config)
    else:
        config.data.update(
            eval_crop="resize_center_crop", resize_method="bilinear", resize_antialias=True
        )
    config.model.name, config.model.dtype = model, "float32"
    return config


def pretrained_start(name: str, model: str) -> Pretrained:
    """The weights config.finetune.weights = `name` of a run with this model.

    Raises:
      ConfigError: if there are none, or if they are of another model.
    """
    weights = find_pretrained(name)
    if weights.model != model:
        raise ConfigError(
            f"config.finetune.weights = {name!r} are of {weights.model}, config.model.name is "
            f"{model!r}"
        )
    return weights


def check_file(path: Path) -> None:
    """Raises WeightsError if a file of weights is missing, or of no kind that can be read."""
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    if path.suffix not in FILE_SUFFIXES:
        raise WeightsError(f"{path}: expected a name that ends with {', '.join(FILE_SUFFIXES)}")

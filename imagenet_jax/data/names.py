"""What config.data may say, as far as it shows without opening anything."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import ml_collections

from imagenet_jax.errors import ConfigError, DataError

FILES = ("folder", "zip", "csv")
# Photos with maps of classes, and with boxes.
MASKS, BOX_FILES = "masks", ("coco", "voc", "yolo")
_KINDS = (*FILES, "tfrecord", MASKS, *BOX_FILES)
# What people call the split that they evaluate on while they train, as one name.
VALIDATION = ("validation", "val", "valid", "dev", "eval", "evaluation")
TEST = ("test", "testing")
# Classes and training examples of data sets that need not be opened to be studied.
_SIZES = {
    "digits": (10, 1437),
    "digit_pairs": (10, 2000),
    "scenes": (11, 4000),
    "cifar10": (10, 50_000),
    "cifar100": (100, 50_000),
}
_TFDS_NAME = re.compile(r"\w+(/[\w.+-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?")
_IMAGENET = (1000, 1_281_167)


def place_of(name: str) -> tuple[str, str] | None:
    """("folder", PATH) of "folder:PATH", and the like; None of a TFDS data set and of fake."""
    kind, _, path = name.partition(":")
    return (kind, os.path.expanduser(path)) if kind in _KINDS and path else None


def resolved_dir(data_dir: str) -> str:
    """data.dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return os.path.expanduser(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    )


def names_default_splits(data: ml_collections.ConfigDict) -> bool:
    """Whether config.data leaves it to the data set what is trained and evaluated on."""
    return not data.folds and (data.train_split, data.eval_split) == ("train", "validation")


def split_there(split: str, splits: Iterable[str], default: bool = False) -> str:
    """The split that is meant by a name, as the data set calls it.

    Args:
      split: NAME or NAME[...].
      splits: those that the data set has.
      default: whether nobody chose it, see `names_default_splits`.

    Returns:
      `split`, with another of `VALIDATION` for one of them that is not there, in any case, if the
      data set has exactly one. "test" for "validation" only where there is none and nobody chose.
    """
    name, bracket, part = split.partition("[")
    splits = list(splits)
    others = [other for other in splits if other.lower() in VALIDATION]
    if default and not others:
        others = [other for other in splits if other.lower() in TEST]
    if name in splits or name.lower() not in VALIDATION or len(others) != 1:
        return split
    return f"{others[0]}{bracket}{part}"


def known_size(data: ml_collections.ConfigDict) -> tuple[int, int]:
    """Classes and training examples of a data set, unopened; those of ImageNet if not known."""
    if data.name == "fake":
        return data.fake_classes, data.fake_train_examples
    return _SIZES.get(data.name, _IMAGENET)


def train_views(data: ml_collections.ConfigDict) -> tuple[int, int, int]:
    """The shape of what a training batch has of an example: its views, one above the other, and
    below them lines of as many small ones as there is room for."""
    size = train_size(data)
    height = data.views * data.crops * size
    if data.local_crops:
        height += -(-data.local_crops // (size // data.local_size)) * data.local_size
    return height, size, 3


def train_size(data: ml_collections.ConfigDict) -> int:
    """Height and width of training images in pixels."""
    return data.train_size or data.image_size


def check_data(data: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a data.name of no known form, or fields that contradict each other."""
    random = ("random_resized_crop", "resize_random_crop", "scale_jitter", "ssd_crop")
    random = data.train_crop in random
    if data.cache and random and data.name != "fake":
        raise ConfigError(
            "config.data.cache = True keeps decoded images, but data.train_crop = "
            f"{data.train_crop!r} decodes another crop each epoch; set one of the two"
        )
    others = data.mosaic or data.copy_paste
    if data.cache and (data.policy or data.rotate or data.translate or data.views > 1 or others):
        raise ConfigError(
            "config.data.cache = True keeps images as the host made them, but data.policy, "
            "data.rotate, data.translate, data.views, data.mosaic and data.copy_paste make others "
            "each epoch; set one of the two"
        )
    if data.cache and data.resize_method == "random":
        raise ConfigError(
            "config.data.cache = True keeps decoded images, but data.resize_method = 'random' "
            "resizes in another way each epoch; set one of the two"
        )
    if data.crops > 1 or data.local_crops:
        _check_crops(data)
    if not place_of(data.name) and not _TFDS_NAME.fullmatch(data.name):
        raise ConfigError(
            f"config.data.name = {data.name!r} is not known; expected the name of a TFDS data set "
            f"(imagenet2012, cifar10, digits, NAME:VERSION, NAME/CONFIG, ...), fake, "
            f"{', '.join(f'{k}:PATH' for k in _KINDS)}"
        )


def _check_crops(data: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for several crops of each image where they would not differ or fit."""
    said = f"config.data.crops = {data.crops}, local_crops = {data.local_crops}"
    if data.train_crop != "random_resized_crop":
        raise ConfigError(
            f"{said}: each is a random crop, and config.data.train_crop = {data.train_crop!r} is "
            "not; set 'random_resized_crop'"
        )
    others = [name for name in ("views", "mosaic", "copy_paste") if data[name] > (name == "views")]
    if others:
        raise ConfigError(f"{said} does not go with config.data.{' and data.'.join(others)}")
    if data.local_crops and data.local_size > train_size(data):
        raise ConfigError(
            f"config.data.local_size = {data.local_size} is more than the {train_size(data)} "
            "pixels of data.crops; local crops are smaller ones"
        )


def check_files(name: str) -> None:
    """Raises DataError if a data.name is that of a folder, archive or list that is not there."""
    place = place_of(name)
    if place and place[0] in (*FILES, MASKS, *BOX_FILES):
        existing(*place)


def existing(kind: str, path: str) -> Path:
    """Where `folder:PATH`, `zip:PATH` or `csv:PATH` is. Raises DataError if it is not there."""
    found, what = Path(os.path.expanduser(path)), "folder" if kind == "folder" else "file"
    if kind == "coco" and found.suffix.lower() == ".json" and found.is_file():
        return found  # a file of annotations
    if kind in (MASKS, *BOX_FILES) and (found.is_dir() or found.suffix.lower() == ".zip"):
        kind, what = ("folder", what) if found.is_dir() else ("zip", "file")
    if not (found.is_dir() if kind == "folder" else found.is_file()):
        if not found.exists():
            raise DataError(f"data.name = '{kind}:{path}': there is no such {what}")
        kinds = {".zip": "zip", ".csv": "csv", ".tsv": "csv"}
        other = "folder" if found.is_dir() else kinds.get(found.suffix.lower())
        remedy = (
            f"write {other}:{path}" if other else "an archive that is no zip has to be unpacked"
        )
        raise DataError(f"data.name = '{kind}:{path}' is no {what}; {remedy}")
    return found


def check_preparation(
    dataset: str, name: str, short_side: int, kind: str, quality: int, eval_fraction: float
) -> None:
    """Raises ConfigError for what `prepare` cannot do; see `prepare.prepare` and its Encoding."""
    if kind == "raw" and not short_side:
        raise ConfigError("--encoding=raw needs --resize=SHORT_SIDE, e.g. --resize=256")
    if short_side < 0:
        raise ConfigError(f"--resize={short_side} is no number of pixels")
    if not 1 <= quality <= 95:
        raise ConfigError(f"--quality={quality} is not 1 to 95")
    if not 0 <= eval_fraction < 1:
        raise ConfigError(f"--eval_fraction={eval_fraction} is not at least 0 and below 1")
    if not place_of(dataset) and (eval_fraction or (name and not short_side)):
        raise ConfigError(f"--name and --eval_fraction are not for TFDS's own {dataset}")
    if name:
        check_name(name)


def check_name(name: str) -> None:
    """Raises ConfigError if TFDS does not take this as the name of a data set."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"--name={name}: a data set's name has only a to z, 0 to 9 and _")

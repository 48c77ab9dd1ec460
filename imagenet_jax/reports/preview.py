"""A contact sheet of every augmentation, on the images and with the code that training uses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.atomic import replacing
from imagenet_jax.augment.crop_views import train_crops
from imagenet_jax.config import apply_overrides, base_config, from_dict
from imagenet_jax.data import open_split
from imagenet_jax.reports.sheet import COLUMNS, pixels_of, sheet_of_rows

# Each row switches on what it names, and nothing else.
ROWS: dict[str, dict[str, str]] = {
    "not augmented": {},
    "random_resized_crop": {"data.train_crop": "random_resized_crop"},
    "flip": {"augment.flip": "true"},
    "pad 20": {"augment.pad": "20"},
    "pad 20, reflect": {"augment.pad": "20", "augment.pad_mode": "reflect"},
    "rotate 30": {"data.rotate": "30"},
    "translate 0.2": {"data.translate": "0.2"},
    "randaugment, magnitude 9": {"data.policy": "randaugment"},
    "randaugment, magnitude 20": {"data.policy": "randaugment", "data.policy_magnitude": "20"},
    "randaugment_tf, level 10": {
        "data.policy": "randaugment_tf",
        "data.policy_magnitude": "10",
    },
    "trivialaugment": {"data.policy": "trivialaugment"},
    "autoaugment": {"data.policy": "autoaugment"},
    "augmix, severity 3": {"data.policy": "augmix", "data.policy_magnitude": "3"},
    "brightness 0.4": {"augment.brightness": "0.4"},
    "contrast 0.4": {"augment.contrast": "0.4"},
    "saturation 0.4": {"augment.saturation": "0.4"},
    "hue 0.1": {"augment.hue": "0.1"},
    "grayscale": {"augment.grayscale": "1"},
    "solarize": {"augment.solarize": "1"},
    "blur": {"augment.blur": "1"},
    "noise 0.1": {"augment.noise": "0.1"},
    "three_augment": {"augment.three_augment": "true"},
    "erase": {"augment.erase": "1"},
    "erase, color": {"augment.erase": "1", "augment.erase_mode": "color"},
    "erase, pixel": {"augment.erase": "1", "augment.erase_mode": "pixel"},
    "mixup 0.8": {"augment.mixup": "0.8"},
    "cutmix 1": {"augment.cutmix": "1"},
    "cutmix 1, per batch": {"augment.cutmix": "1", "augment.mix_per": "batch"},
}


def preview(config: ml_collections.ConfigDict, path: Path, reads: Sequence[str]) -> dict[str, Any]:
    """Draws the first images of training under each augmentation, and under the config's own.

    Args:
      config: see `schema.SCHEMA`; its data set and preprocessing are used.
      path: of the PNG.
      reads: as of `data.open_split`.

    Returns:
      path, dataset and rows (their names, from the top).

    Raises:
      DataError: see `data.open_split`.
    """
    plain = _plain(config)
    rows = {"this config": _images(config, reads)}
    for name, fields in ROWS.items():
        row = from_dict(plain.to_dict())
        apply_overrides(row, fields)
        rows[name] = _images(row, reads)
    sheet = sheet_of_rows(rows)
    with replacing(path) as partial:
        sheet.save(partial, "PNG")
    return {"path": str(path), "dataset": config.data.name, "rows": list(rows)}


def preview_text(result: dict[str, Any]) -> str:
    """Where the sheet is."""
    return f"{len(result['rows'])} rows of {result['dataset']} are drawn in {result['path']}"


def _plain(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config with all augmentation off."""
    plain, default = from_dict(config.to_dict()), base_config()
    for field in default.augment:
        if field not in ("mean", "std"):
            plain.augment[field] = default.augment[field]
    plain.augment.flip = False
    several = ("mosaic", "copy_paste", "crops", "local_crops")
    for field in (
        *("rotate", "translate", "policy", "policy_ops", "policy_magnitude", "repeats", *several),
    ):
        plain.data[field] = default.data[field]
    if plain.data.train_crop == "random_resized_crop":
        plain.data.train_crop = "center_crop"
    return plain


def _images(config: ml_collections.ConfigDict, reads: Sequence[str]) -> np.ndarray:
    """The first training images as the model sees them, uint8 [COLUMNS, S, S, 3]."""
    config = from_dict(config.to_dict())
    rows = COLUMNS * (2 if config.augment.mix_per == "half" else 1)
    config.batch_size, config.data.cache = rows * config.data.repeats, False
    config.data.views, config.data.labelled_share = 1, 0.0
    batches = open_split(config, True, reads).train_batches(np.arange(rows), 0, 1)
    batch = next(batches)
    batches.close()
    key = jax.random.key(config.seed)

    def step(batch: dict[str, Any]) -> jax.Array:
        if config.data.crops > 1:  # of each image its first view
            return train_crops(batch, key, config).whole[:: config.data.crops]
        return augment.train_inputs(batch, key, 0, config.augment)[0]

    return pixels_of(jax.jit(step)(batch), config.augment)

"""Published recipes: what they reached, where they are from, and what they have in common."""

from typing import NamedTuple

import ml_collections

from imagenet_jax.config.config import base_config


class Published(NamedTuple):
    """What is known of a recipe.

    Attributes:
      top1: percent on ImageNet's validation set, as its authors report it.
      source: paper or file, with its commit.
      spread: of top1 over seeds, as its authors have it; "": not known.
      hardware: on which it was run, and for how long; "": not known.
      here: what this project measured when it ran the recipe; "": not run.
    """

    top1: float
    source: str
    spread: str = ""
    hardware: str = ""
    here: str = ""


def imagenet_config(model: str) -> ml_collections.ConfigDict:
    """The defaults, for a model on ImageNet: random crops and flips, no smoothing, no mixing,
    evaluation on 224 of 256 pixels, Pillow's bilinear filter, bfloat16."""
    config = base_config()
    config.model.name = model
    config.data.name = "imagenet2012"
    config.data.eval_crop = "resize_center_crop"
    config.data.eval_resize = 256
    config.data.resize_antialias = True
    config.loss.label_smoothing = 0.0
    config.eval.batch_size = 1024
    config.log.every = "100 steps"
    return config


def caffe_images(config: ml_collections.ConfigDict, size: int) -> None:
    """Caffe's, as near as can be: boxes of the area that `size` of 256 pixels squared have, levels
    of 0 to 255 less the mean colour of its files."""
    share = (size / 256) ** 2
    config.data.image_size = size
    config.data.crop_area = (share, share)
    config.data.resize_antialias = False
    config.augment.mean = (123 / 255, 117 / 255, 104 / 255)
    config.augment.std = (1 / 255, 1 / 255, 1 / 255)

"""Published recipes: what they reached, where they are from, and what they have in common."""

from typing import NamedTuple

import ml_collections

from imagenet_jax.config.config import base_config


class Published(NamedTuple):
    """What is known of a recipe.

    Attributes:
      top1: percent on ImageNet's validation set, as its authors report it; None: they do not.
      source: paper or file, with its commit.
      spread: of top1 over seeds, as its authors have it; "": not known.
      hardware: on which it was run, and for how long; "": not known.
      here: what this project measured when it ran the recipe; "": not run.
    """

    top1: float | None
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


def big_vision_images(config: ml_collections.ConfigDict) -> None:
    """Crops, evaluation and levels of google-research/big_vision's ImageNet configs."""
    config.data.train_split = "train[:99%]"
    config.data.crop_area = (0.05, 1.0)
    config.data.crop_ratio = (0.75, 1.33)
    config.data.resize_antialias = False
    config.data.eval_resize_method = "area"
    config.augment.mean = config.augment.std = (0.5, 0.5, 0.5)


def deit_augmentation(config: ml_collections.ConfigDict) -> None:
    """RandAugment, erasing and mixing by timm as DeiT has them, and ConvNeXt and Swin after it."""
    config.data.resize_method = "bicubic"
    config.data.policy = "randaugment_timm"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 9
    config.data.policy_magnitude_std = 0.5
    config.data.policy_increasing = True
    config.data.policy_prob = 0.5
    config.augment.erase = 0.25
    config.augment.erase_area = (0.02, 1 / 3)
    config.augment.erase_ratio = (0.3, 1 / 0.3)
    config.augment.erase_mode = "pixel"
    config.augment.mixup = 0.8
    config.augment.cutmix = 1.0
    config.augment.switch_prob = 0.5
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.1


def efficientnet_training(config: ml_collections.ConfigDict) -> None:
    """Optimizer, schedule and average of EfficientNets; the rate is for config.batch_size."""
    config.ema_decay = 0.9999
    config.loss.label_smoothing = 0.1
    config.optim.name = "rmsprop"
    config.optim.learning_rate = 0.016 * config.batch_size / 256
    config.optim.momentum = 0.9
    config.optim.b2 = 0.9
    config.optim.eps = 1e-3
    config.optim.weight_decay = 1e-5
    config.schedule.name = "exponential"
    config.schedule.factor = 0.97
    config.schedule.timescale = "2.4 epochs"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False


def two_views(config: ml_collections.ConfigDict, strength: float = 0.5) -> None:
    """Two crops of each image, jittered as torchvision's ColorJitter does, some of them grey.

    The ranges of brightness, contrast, saturation and hue are 0.8, 0.8, 0.8 and 0.2 times
    `strength`.
    """
    config.data.crops = 2
    config.augment.brightness = config.augment.contrast = 0.8 * strength
    config.augment.saturation = 0.8 * strength
    config.augment.hue = 0.2 * strength
    config.augment.jitter_share = 0.8
    config.augment.grayscale = 0.2


def byol_views(config: ml_collections.ConfigDict) -> None:
    """The two kinds of views of BYOL, which MoCo v3 and DINO have taken over."""
    two_views(config)
    config.augment.saturation = 0.2
    config.augment.view_blur = (1.0, 0.1)
    config.augment.view_solarize = (0.0, 0.2)


def caffe_images(config: ml_collections.ConfigDict, size: int) -> None:
    """Caffe's: a square of `size` pixels out of the image squeezed to 256 x 256, levels of 0 to 255
    less the mean colour of its files."""
    config.data.image_size = size
    config.data.train_crop = "resize_random_crop"
    config.data.train_resize = 256
    config.data.resize_antialias = False
    config.augment.mean = (123 / 255, 117 / 255, 104 / 255)
    config.augment.std = (1 / 255, 1 / 255, 1 / 255)

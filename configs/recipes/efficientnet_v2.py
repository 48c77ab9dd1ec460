"""EfficientNetV2 S, M, L: four stages of growing images, RandAugment and mixing.

Command:   python launch.py --config=efficientnet_v2:s --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU; on less than its memory raise accumulate.
Deviation: torch's padding and initial depthwise kernels, as in the networks here; which images are
           held out (25,023 of those trained on); mixing is within pairs of neighbours that take
           turns in mixup and CutMix, theirs with each half of the batch in reverse; random crops as
           torchvision draws them (uniform area, log-uniform ratio), theirs as TensorFlow does; a
           JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
Unknown:   on how many cores theirs ran: statistics of BatchNorm are over 512 images, those of 8 of
           64 cores.
"""

from imagenet_jax.config.recipe import Published, efficientnet_training, imagenet_config

SOURCE = "arXiv 2104.00298; google/automl 2fb46e72 efficientnetv2"
RECIPES = {
    "s": Published(83.9, SOURCE),
    "m": Published(85.2, SOURCE),
    "l": Published(85.7, SOURCE),
}
# Pixels at the end of training and in evaluation; level of RandAugment and alpha at the end.
LAST = {"s": (300, 384, 10, 0.0), "m": (384, 480, 15, 0.2), "l": (384, 480, 20, 0.5)}
STAGES = 4
EPOCHS = 350


def get_config(variant="s"):
    pixels, eval_pixels, level, alpha = LAST[variant]
    config = imagenet_config(f"efficientnet_v2_{variant}")
    config.batch_size = 4096
    config.duration = f"{EPOCHS} epochs"
    config.model.drop_path = 0.2
    config.model.bn_momentum = 0.9
    config.model.bn_epsilon = 1e-3
    config.model.bn_group_size = 512
    config.data.train_split = "train[25023:]"
    config.data.image_size = eval_pixels
    config.data.train_size = 128 + (pixels - 128) // STAGES
    config.data.crop_area = (0.05, 1.0)
    config.data.crop_ratio = (0.75, 1.33)
    config.data.resize_antialias = False
    config.data.eval_crop = "resize"
    config.data.eval_resize = 0
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 5
    config.augment.mixup_fold = True
    config.augment.mix_per = "image"
    config.augment.switch_halves = True
    config.augment.mean = config.augment.std = (128 / 255,) * 3
    efficientnet_training(config)
    config.optim.decayed = ("kernel$",)
    config.stages = tuple(_stage(number, pixels, level, alpha) for number in range(1, STAGES))
    return config


def _stage(number, pixels, level, alpha):
    share = number / (STAGES - 1)
    changes = [
        f"data.train_size={128 + (pixels - 128) * (number + 1) // STAGES}",
        f"data.policy_magnitude={5 + (level - 5) * share:.4g}",
    ]
    if alpha:
        changes += [f"augment.{kind}={alpha * share:.4g}" for kind in ("mixup", "cutmix")]
    return f"{number * EPOCHS // STAGES} epochs: {' '.join(changes)}"

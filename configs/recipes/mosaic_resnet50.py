"""MosaicML's ResNet-50 recipes: mild, medium and hot, for ever longer runs of growing images.

Command:   python launch.py --config=mosaic_resnet50:mild --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 x A100 in the source; their best times read FFCV's files.
Deviation: bfloat16 in place of float16 with loss scaling; pairs of neighbours are mixed, theirs a
           random permutation of the batch; small images are cropped to their size, theirs to 176
           pixels and then shrunk by the nearest pixel. Medium and hot: the ascent of SAM follows
           the gradient of the whole batch, theirs that of a GPU's 256 images; medium has it at
           steps 0, 10, ..., theirs at 9, 19, ..., and hot at 0, 5, ..., theirs at 4, 9, ....
           Images grow by the epoch, theirs by the batch. Hot: timm's operations with levels of
           about the mean and deviation of theirs, which are uniform from 0.1 to 9; timm's invert
           and add to solarized images, which theirs lack, whose colours, contrast and sharpness
           are multiplied by up to 9; and stochastic depth begins at 0, theirs at a block's share.
Unknown:   the size of a GPU's micro-batch, whose statistics BatchNorm has: theirs finds it by
           trying; 256, the share of a GPU, is taken. The authors have ranges of top-1 over the
           lengths of a recipe, 75 to 78.1 and 78.1 to 79.5; the hot one's nobody here has opened.
"""

import math

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "mosaicml/examples daddaeff resnet_imagenet; mosaicml/composer 64051888; databricks.com/blog"
)
RECIPES = {
    "mild": Published(75.0, SOURCE, spread="the low end of 75 to 78.1, for less than 60 epochs"),
    "medium": Published(78.1, SOURCE, spread="the low end of 78.1 to 79.5, for 60 to 240 epochs"),
    "hot": Published(79.5, SOURCE, spread="'above' that, for more than 240 epochs; unverified"),
}
_EPOCHS = {"mild": 36, "medium": 135, "hot": 270}
_SIZE = 176


def _sizes(epochs, first, delay, full):
    """The pixels of each epoch: from the share `first` of all on, after the share `delay` of the
    run to all for its last share `full`, in multiples of 4."""
    done = [min(max(epoch / epochs - delay, 0) / (1 - full - delay), 1) for epoch in range(epochs)]
    return [4 * round(_SIZE * (first + (1 - first) * share) / 4) for share in done]


def get_config(variant="mild"):
    config = imagenet_config("resnet50")
    hot = variant == "hot"
    epochs = _EPOCHS[variant]
    config.batch_size = 2048
    config.duration = f"{epochs} epochs"
    sizes = _sizes(epochs, first=0.6, delay=0.2, full=0.2) if hot else _sizes(epochs, 0.5, 0.4, 0.2)
    config.data.train_size = sizes[0]
    config.stages = tuple(
        f"{epoch} epochs: data.train_size={size}"
        for epoch, (size, before) in enumerate(zip(sizes[1:], sizes, strict=False), start=1)
        if size != before
    )
    config.ema_decay = 0.5 ** (20 / 100)  # a half-life of 100 steps
    config.ema_every = 20
    config.ema_ramp = "none"
    config.model.zero_init_residual = False
    config.model.conv_init = "fan_in"
    config.model.bn_init = "uniform"
    config.model.head_std = (2 / 2048) ** 0.5
    config.model.head_bias = -math.log(1000)
    config.model.blur_pool = "all"
    config.model.bn_group_size = 256
    config.model.drop_path = 0.1 if hot else 0.0
    config.data.eval_resize = 232
    if hot:
        config.data.policy = "randaugment_timm"
        config.data.policy_ops = 1
        config.data.policy_magnitude = 5
        config.data.policy_magnitude_std = 2.6
        config.data.policy_prob = 1.0
        config.augment.colout = 0.05
    config.augment.mixup = {"mild": 0.0, "medium": 0.2, "hot": 0.25}[variant]
    config.augment.mix_per = "batch"
    config.augment.mixup_fold = True
    config.loss.name = "sigmoid"
    config.loss.class_reduction = "sum"
    config.loss.label_smoothing = {"mild": 0.08, "medium": 0.1, "hot": 0.13}[variant]
    config.optim.name = "sgd"
    config.optim.learning_rate = 2.048
    config.optim.momentum = 0.875
    config.optim.nesterov = False
    config.optim.weight_decay = 5e-4
    config.optim.decay_coupling = "schedule"
    config.optim.decayed = ("@all",)
    if variant != "mild":
        config.optim.sam = 0.5
        config.optim.sam_every = 5 if hot else 10
    config.schedule.name = "cosine"
    config.schedule.warmup = "8 epochs"
    return config

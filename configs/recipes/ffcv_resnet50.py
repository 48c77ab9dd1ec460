"""FFCV's ResNet-50: 16 to 88 epochs with images that grow from 160 to 192 pixels.

Command:   python launch.py --config=ffcv_resnet50:16 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 x A100 in the source, 512 images each.
Deviation: bfloat16 in place of float16 with loss scaling; original JPEGs, theirs are shrunk to 500
           pixels; the classifier starts from a normal distribution with the standard deviation of
           torch's uniform one, its bias at 0.
Note:      a user did not reach the published numbers: https://github.com/libffcv/ffcv/issues/268.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "libffcv/ffcv-imagenet 4dd291a1: README, train_imagenet.py, rn50_configs"
_HARDWARE = "8 x A100, {} minutes"
RECIPES = {
    "16": Published(73.8, SOURCE, hardware=_HARDWARE.format(14.9)),
    "24": Published(75.6, SOURCE, hardware=_HARDWARE.format(21.7)),
    "32": Published(76.6, SOURCE, hardware=_HARDWARE.format(28.7)),
    "40": Published(77.2, SOURCE, hardware=_HARDWARE.format(35.6)),
    "56": Published(78.0, SOURCE, hardware=_HARDWARE.format(49.4)),
    "88": Published(78.4, SOURCE, hardware=_HARDWARE.format(77.2)),
}
# Epochs at which the size begins and ends to grow.
_GROWTH = {
    **{"16": (11, 13), "24": (17, 20), "32": (23, 27), "40": (29, 34)},
    **{"56": (41, 48), "88": (65, 76)},
}


def get_config(variant="16"):
    config = imagenet_config("resnet50")
    config.batch_size = 4096
    config.duration = f"{variant} epochs"
    begin, end = _GROWTH[variant]
    # In multiples of 32 the line from 160 to 192 is a step, at its middle.
    first = next(e for e in range(begin, end + 1) if 160 + 32 * (e - begin) / (end - begin) >= 176)
    config.stages = (f"{first} epochs: data.train_size=192",)
    config.model.zero_init_residual = False
    config.model.blur_pool = "conv"
    config.model.head_std = (3 * 2048) ** -0.5
    config.model.bn_group_size = 512
    config.data.train_size = 160
    config.data.image_size = 256
    config.data.eval_crop = "center_crop"
    config.data.eval_crop_fraction = 224 / 256
    config.data.eval_resize = 0
    config.data.resize_method = "area"
    config.data.resize_antialias = False
    config.eval.tta = "mirror"
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 1.7
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = (r"^(?!.*bn)",)  # so the norms of the shortcuts do, as in the source
    config.schedule.name = "linear"
    config.schedule.warmup = "2 epochs"
    config.schedule.warmup_start = 1e-4
    return config

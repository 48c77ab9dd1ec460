"""FFCV's ResNet-18: 16 to 88 epochs with images that grow from 160 to 192 pixels.

Command:   python launch.py --config=ffcv_resnet18:16 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  1 x A100 in the source, 1,024 images.
Deviation: bfloat16 in place of float16 with loss scaling; original JPEGs, theirs are shrunk to 400
           pixels; the classifier starts from a normal distribution with the standard deviation of
           torch's uniform one, its bias at 0.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "libffcv/ffcv-imagenet 4dd291a1: README, train_imagenet.py, rn18_configs"
_HARDWARE = "1 x A100, {} minutes"
RECIPES = {
    "16": Published(66.9, SOURCE, hardware=_HARDWARE.format(35.0)),
    "24": Published(68.8, SOURCE, hardware=_HARDWARE.format(51.6)),
    "32": Published(70.0, SOURCE, hardware=_HARDWARE.format(68.9)),
    "40": Published(70.6, SOURCE, hardware=_HARDWARE.format(85.5)),
    "56": Published(71.3, SOURCE, hardware=_HARDWARE.format(119.4)),
    "88": Published(72.4, SOURCE, hardware=_HARDWARE.format(187.3)),
}
# Epochs at which the size begins and ends to grow.
_GROWTH = {
    **{"16": (11, 13), "24": (17, 20), "32": (23, 27), "40": (29, 34)},
    **{"56": (41, 48), "88": (65, 76)},
}


def get_config(variant="16"):
    config = imagenet_config("resnet18")
    config.batch_size = 1024
    config.duration = f"{variant} epochs"
    begin, end = _GROWTH[variant]
    # In multiples of 32 the line from 160 to 192 is a step, at its middle.
    first = next(e for e in range(begin, end + 1) if 160 + 32 * (e - begin) / (end - begin) >= 176)
    config.stages = (f"{first} epochs: data.train_size=192",)
    config.model.zero_init_residual = False
    config.model.blur_pool = "conv"
    config.model.head_std = (3 * 512) ** -0.5
    config.model.bn_group_size = 1024
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
    config.optim.learning_rate = 0.5
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 5e-5
    config.optim.decayed = (r"^(?!.*bn)",)  # so the norms of the shortcuts do, as in the source
    config.schedule.name = "linear"
    config.schedule.warmup = "2 epochs"
    config.schedule.warmup_start = 1e-4
    return config

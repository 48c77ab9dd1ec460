"""FFCV's ResNet-18: 16 to 88 epochs with images that grow from 160 to 192 pixels.

Command:   python launch.py --config=ffcv_resnet18:16 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  1 x A100 in the source, 1,024 images.
Deviation: bfloat16 in place of float16 with loss scaling; original JPEGs, theirs are shrunk to 400
           pixels; the classifier starts from a normal distribution with the standard deviation of
           torch's uniform one, its bias at 0.
"""

from imagenet_jax.config.files import load_config
from imagenet_jax.config.recipe import Published

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


def get_config(variant="16"):
    config = load_config(f"ffcv_resnet50:{variant}")
    config.batch_size = 1024
    config.model.name = "resnet18"
    config.model.head_std = (3 * 512) ** -0.5
    config.model.bn_group_size = 1024
    config.optim.learning_rate = 0.5
    config.optim.weight_decay = 5e-5
    return config

"""VGG with and without BatchNorm as mmpretrain trained it: 100 epochs of plain SGD.

Command:   python launch.py --config=vgg:16_bn --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 Titan Xp x 32 images in the source.
Deviation: activations in bfloat16, the source in float32.
           A JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
Note:      the recipe of the paper (scale jitter of 256 to 512, 74 epochs) is another one.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "open-mmlab/mmpretrain 735a3ee1 configs/vgg, 046791a7 metafile.yml"
RECIPES = {
    "11": Published(68.75, SOURCE),
    "13": Published(70.02, SOURCE),
    "16": Published(71.62, SOURCE),
    "19": Published(72.41, SOURCE),
    "11_bn": Published(70.75, SOURCE, spread="70.67 in ee7f2e88"),
    "13_bn": Published(72.15, SOURCE, spread="72.12 in ee7f2e88"),
    "16_bn": Published(73.72, SOURCE, spread="73.74 in ee7f2e88"),
    "19_bn": Published(74.70, SOURCE, spread="74.68 in ee7f2e88"),
}


def get_config(variant="16_bn"):
    config = imagenet_config(f"vgg{variant}")
    config.batch_size = 256
    config.duration = "100 epochs"
    config.model.bn_group_size = 32
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1 if variant.endswith("_bn") else 0.01
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.schedule.name = "step"
    config.schedule.boundaries = ("30 epochs", "60 epochs", "90 epochs")
    config.schedule.factor = 0.1
    config.schedule.interval = "epoch"
    return config

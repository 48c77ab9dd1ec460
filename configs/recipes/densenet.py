"""DenseNet-BC by its authors: fb.resnet.torch's 90 epochs with jitter and noise of the colours.

Command:   python launch.py --config=densenet --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  4 GPUs x 64 images in the source (DenseNet-121).
Deviation: activations in bfloat16, the source in float32; crops are resized by OpenCV's bicubic
           filter, theirs by Torch's; ratios of crops are even in their logarithm, theirs in
           themselves; each change of the colours is cut to [0, 1], theirs are not;
           the classifier starts from a normal distribution with the standard deviation of Torch's
           uniform one, its bias at 0.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "liuzhuang13/DenseNet 0085cc9f README; fb.resnet.torch d4b9406 transforms.lua"
RECIPES = {
    "121": Published(75.0, SOURCE),
    "169": Published(76.4, SOURCE),
    "201": Published(77.5, SOURCE),
    "161": Published(77.8, SOURCE),
}

# Channels that the classifier sees.
_FEATURES = {"121": 1024, "169": 1664, "201": 1920, "161": 2208}


def get_config(variant="121"):
    config = imagenet_config(f"densenet{variant}")
    config.batch_size = 256
    config.duration = "90 epochs"
    config.model.bn_group_size = 64
    config.model.conv_init = "fan_out"
    config.model.head_std = (3 * _FEATURES[variant]) ** -0.5
    config.data.resize_method = "bicubic"
    config.data.resize_antialias = False
    config.augment.brightness = 0.4
    config.augment.contrast = 0.4
    config.augment.saturation = 0.4
    config.augment.lighting = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@all",)
    config.schedule.name = "step"
    config.schedule.boundaries = ("30 epochs", "60 epochs")
    config.schedule.factor = 0.1
    config.schedule.interval = "epoch"
    return config

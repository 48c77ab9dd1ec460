"""torchvision's MobileNet v3 (the weights IMAGENET1K_V1): 600 epochs of RMSProp, AutoAugment.

Command:   python launch.py --config=torchvision_mobilenet_v3 --workdir=DIR
               --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 128 images in the source.
Deviation: activations in bfloat16, the source in float32;
           RMSProp is TensorFlow's: 0.001 within the root in place of 0.0316 beside it, a mean that
           begins at 1, the rate within the momentum;
           theirs is the mean of the last three checkpoints that had become better, which
           `launch.py average --checkpoints=improved:3` makes of those that are kept;
           the policy's rotations and shears take the nearest pixel, theirs interpolate;
           a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "pytorch/vision references/classification (README, train.py), pull requests 3182 and 3354; "
    "weights of 0.28.0"
)
RECIPES = {
    "large": Published(74.042, SOURCE, spread="the mean of three checkpoints"),
    "small": Published(67.668, SOURCE, spread="the mean of three checkpoints"),
}


def get_config(variant="large"):
    config = imagenet_config(f"mobilenet_v3_{variant}")
    config.batch_size = 1024
    config.duration = "600 epochs"
    config.model.bn_group_size = 128
    config.data.policy = "autoaugment"
    config.augment.erase = 0.2
    config.augment.erase_mode = "zero"
    config.optim.name = "rmsprop"
    config.optim.learning_rate = 0.064
    config.optim.momentum = 0.9
    config.optim.b2 = 0.9
    config.optim.eps = 0.001
    config.optim.weight_decay = 1e-5
    config.optim.decayed = ("@all",)
    config.schedule.name = "exponential"
    config.schedule.factor = 0.973
    config.schedule.timescale = "2 epochs"
    config.schedule.interval = "epoch"
    return config

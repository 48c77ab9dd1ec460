"""Inception v3 as Google trained it on TPUs: RMSProp with an epsilon of 1, stairs, colours.

Command:   python launch.py --config=inception_v3 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  TPU v2-8 to v2-512 in the source.
Deviation: random crops as torchvision draws them, theirs as TensorFlow does; brightness and
           saturation change as with their --use_fast_color_distort=False (in an even choice of
           orders), by default they shift brightness, Cb and Cr; evaluation on a square of 87.5 %
           of the short side, theirs on 87.5 % of both sides, squeezed; padding and poolings are
           torchvision's; the auxiliary logits' kernel begins as the others', theirs at 0.001;
           1000 classes, theirs 1001; bfloat16 activations.
Note:      170 epochs are what their guide speaks of; the flag's default is a longer run.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = (
    "tensorflow/tpu 0193ce50 models/experimental/inception; tensorflow 1ea933c9 slim inception_v3; "
    "cloud.google.com/tpu/docs/inception-v3-advanced"
)
RECIPES = {"tpu": Published(78.1, SOURCE, spread="'greater than 78.1 in about 170 epochs'")}


def get_config(variant="tpu"):
    config = imagenet_config("inception_v3")
    config.batch_size = 1024
    config.duration = "213000 steps"
    config.ema_decay = 0.995
    config.model.bn_group_size = 128
    config.model.bn_momentum = 0.996
    config.model.bn_epsilon = 1e-3
    config.model.dropout = 0.2
    config.model.conv_init = "fan_in"
    config.model.head_std = (2 / 2048) ** 0.5
    config.data.image_size = 299
    config.data.crop_area = (0.05, 1.0)
    config.data.resize_antialias = False
    config.data.eval_crop = "center_crop"
    config.data.eval_resize = 0
    config.data.eval_crop_fraction = 0.875
    config.augment.jitter = "tensorflow"
    config.augment.brightness = 32 / 255
    config.augment.saturation = 0.5
    config.augment.mean = (0.5, 0.5, 0.5)
    config.augment.std = (0.5, 0.5, 0.5)
    config.loss.label_smoothing = 0.1
    config.loss.auxiliary = 0.4
    config.optim.name = "rmsprop"
    config.optim.learning_rate = 0.165 * 1024 / 256
    config.optim.momentum = 0.9
    config.optim.b2 = 0.9
    config.optim.eps = 1.0
    config.optim.weight_decay = 4e-5
    config.optim.rules = ("/scale$ frozen",)  # slim's BatchNorm has none
    config.schedule.name = "exponential"
    config.schedule.timescale = "3753 steps"  # 3 epochs of 1251 whole batches
    config.schedule.factor = 0.94
    config.schedule.end = 1e-4
    return config

"""MobileNet v2 by its authors, in slim: RMSProp with an epsilon of 1, 700,000 steps of 8 GPUs.

Command:   python launch.py --config=mobilenet_v2 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 96 images in the source.
Deviation: random crops as torchvision draws them, theirs as TensorFlow does; brightness before
           saturation in a half of the images, theirs in a quarter; evaluation on a square of
           87.5 % of the short side, theirs on 87.5 % of both sides, squeezed; convolutions begin
           as N(0, 2 / fan_out), theirs as N(0, 0.09^2) cut at two deviations, and so do their
           logits, here uncut; torchvision's padding, theirs is SAME; 1000 classes, theirs 1001;
           bfloat16 activations.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "tensorflow/models 0ba83cf0 research/slim: nets/mobilenet, train_image_classifier.py"
RECIPES = {"slim": Published(72.0, SOURCE)}


def get_config(variant="slim"):
    config = imagenet_config("mobilenet_v2")
    config.batch_size = 768
    config.duration = "700000 steps"
    config.ema_decay = 0.9999
    config.model.bn_group_size = 96
    config.model.bn_momentum = 0.997
    config.model.bn_epsilon = 1e-3
    config.model.head_std = 0.09
    config.data.crop_area = (0.05, 1.0)
    config.data.crop_ratio = (0.75, 1.33)
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
    config.optim.name = "rmsprop"
    config.optim.learning_rate = 0.045 * 8
    config.optim.momentum = 0.9
    config.optim.b2 = 0.9
    config.optim.eps = 1.0
    config.optim.weight_decay = 4e-5
    # No depthwise ones: the second of a block, or the first where it does not expand.
    config.optim.decayed = (r"^(?!features\.1/conv\.0\.0/|.*/conv\.1\.0/).*kernel$",)
    config.schedule.name = "exponential"
    config.schedule.timescale = "4170 steps"  # 2.5 epochs
    config.schedule.factor = 0.98
    return config

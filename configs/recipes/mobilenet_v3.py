"""MobileNet v3 large by timm's published command: 600 epochs, RMSProp, RandAugment, erasing.

Command:   python launch.py --config=mobilenet_v3 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  2 GPUs x 512 images in the source.
Deviation: no noise of the rate, theirs has it between 42 and 90 % of the run; bfloat16 in place of
           float16 with loss scaling; initial depthwise kernels are torch's,
           N(0, 2 / (k^2 channels)), theirs N(0, 2 / k^2); the first linear layer begins as
           N(0, 0.01^2), theirs as N(0, 2 / 1280); the logits' kernel is normal, theirs uniform of
           the same deviation.
Unknown:   the command leaves the epochs of warmup and other flags to the script; they are those of
           the named commit, while copies of the script of the time have 3 epochs.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "huggingface/pytorch-image-models aa4b5850 hfdocs/source/training_script.mdx, train.py"
RECIPES = {"timm": Published(75.766, SOURCE)}


def get_config(variant="timm"):
    config = imagenet_config("mobilenet_v3_large")
    config.batch_size = 1024
    config.duration = "600 epochs"
    config.ema_decay = 0.9999
    config.ema_ramp = "none"
    config.model.bn_group_size = 512
    config.model.bn_momentum = 0.9
    config.model.bn_epsilon = 1e-5
    config.model.head_std = 3000**-0.5
    config.model.dropout = 0.2
    config.model.drop_path = 0.2 * 15 / 16  # theirs counts the last convolution as a block
    config.data.resize_method = "random"
    config.data.eval_resize_method = "bicubic"
    config.data.policy = "randaugment_timm"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 9
    config.data.policy_magnitude_std = 0.5
    config.data.policy_increasing = False
    config.data.policy_prob = 0.5
    config.augment.erase = 0.2
    config.augment.erase_area = (0.02, 1 / 3)
    config.augment.erase_ratio = (0.3, 1 / 0.3)
    config.augment.erase_mode = "pixel"
    config.loss.label_smoothing = 0.1
    config.optim.name = "rmsprop"
    config.optim.learning_rate = 0.064
    config.optim.momentum = 0.9
    config.optim.b2 = 0.9
    config.optim.eps = 1e-3
    config.optim.weight_decay = 1e-5
    config.optim.decayed = ("@timm",)
    config.schedule.name = "exponential"
    config.schedule.timescale = "2.4 epochs"
    config.schedule.factor = 0.973
    config.schedule.interval = "epoch"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False
    config.schedule.unit = "rate"
    config.schedule.warmup_start = 1e-6
    return config

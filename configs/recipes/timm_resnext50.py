"""ResNeXt-50 (32x4d) by timm's published command: 240 epochs, RandAugment, three erased boxes.

Command:   python launch.py --config=timm_resnext50 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 192 images in the source.
Deviation: bfloat16 in place of float16 with loss scaling; the classifier starts from a
           normal distribution with the standard deviation of torch's uniform one, its bias at 0.
Unknown:   the command leaves the last rate and the cooldown to the script: 0 and none in the named
           commit, while copies of the script of the time have 10 epochs of cooldown.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "huggingface/pytorch-image-models aa4b5850 hfdocs/source/training_script.mdx, train.py"
RECIPES = {"timm": Published(79.762, SOURCE)}


def get_config(variant="timm"):
    config = imagenet_config("resnext50_32x4d")
    config.batch_size = 1536
    config.duration = "240 epochs"
    config.model.head_std = (3 * 2048) ** -0.5
    config.model.bn_group_size = 192
    config.data.resize_method = "random"
    config.data.eval_resize_method = "bicubic"
    config.data.policy = "randaugment_timm"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 7
    config.data.policy_magnitude_std = 0.5
    config.data.policy_increasing = True
    config.data.policy_prob = 0.5
    config.augment.erase = 0.4
    config.augment.erase_area = (0.02, 1 / 3)
    config.augment.erase_ratio = (0.3, 1 / 0.3)
    config.augment.erase_mode = "pixel"
    config.augment.erase_count = 3
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.6
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@timm",)
    config.schedule.name = "cosine"
    config.schedule.interval = "epoch"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False
    config.schedule.unit = "rate"
    config.schedule.warmup_start = 1e-5
    return config

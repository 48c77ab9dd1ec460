"""A small U-Net that finds the pixels of digits in scenes: a first run of segmentation.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=segment_scenes
Hardware:  2 CPU cores; about 30 images/s of training.
Accuracy:  not run to its end by this project. Without changes of size and colour, half the learning
           rate and 20 epochs of an earlier edition of the data set (2,000 training images, digits
           of which were hidden more) had 43.7 % mean IoU, 96.2 % of the pixels, one run, jax
           0.10.2, and 98.5 % of the pixels in training: they overfit, which these settings are
           against.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.task = "segmentation"
    config.batch_size = 8
    config.duration = "12 epochs"
    config.model.name = "resnet18"
    config.model.width = 32
    config.model.head = "unet"
    config.model.dtype = "float32"
    config.model.bn_group_size = 4
    config.model.zero_init_residual = False
    config.data.name = "scenes"
    config.data.eval_split = "test"
    config.data.image_size = 128
    config.data.train_crop = "scale_jitter"
    config.data.jitter = (0.8, 1.25)
    config.data.eval_crop = "none"
    config.augment.flip = False
    config.augment.brightness = 0.3
    config.augment.contrast = 0.3
    config.augment.hue = 0.5
    config.loss.label_smoothing = 0.0
    config.loss.auxiliary = 0.0
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-3
    config.optim.weight_decay = 1e-4
    config.schedule.warmup = "500 steps"
    config.eval.batch_size = 50
    config.eval.every = "3 epochs"
    config.log.every = "100 steps"
    return config

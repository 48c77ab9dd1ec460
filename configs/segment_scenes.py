"""A small U-Net that finds the pixels of digits in scenes: a first run of segmentation.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=segment_scenes
Hardware:  2 CPU cores of an AMD EPYC, 19 minutes, 42 images/s of training, jax 0.10.2.
Accuracy:  59.0 % mean IoU, 97.6 % of the pixels, one run; 52.5 % after 9 epochs, so that a longer
           run would get further: in training, where colours and sizes change, it told 96.2 % then.
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

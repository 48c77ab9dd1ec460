"""FCOS on a small ResNet finds digits in scenes."""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.task = "detection"
    config.batch_size = 8
    config.duration = "12 epochs"
    config.model.name = "resnet18"
    config.model.width = 32
    config.model.head = "fcos"
    config.model.fpn_strides = (4, 8, 16)
    config.model.fpn_width = 32
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
    config.schedule.warmup = "1 epochs"
    config.eval.batch_size = 50
    config.eval.candidates = 200
    config.eval.every = "6 epochs"
    config.log.every = "25 steps"
    return config

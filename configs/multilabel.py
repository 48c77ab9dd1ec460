"""A ResNet-8 that tells which digits are in an image: several labels, in about a minute.

Command:   python launch.py --config=configs/multilabel.py
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.task = "multilabel"
    config.batch_size = 64
    config.duration = "20 epochs"
    config.model.name = "resnet8"
    config.model.dtype = "float32"
    config.model.bn_group_size = 0
    config.data.name = "digit_pairs"
    config.data.eval_split = "test"
    config.data.image_size = 16
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.cache = True
    config.augment.flip = False
    config.augment.pad = 2
    config.augment.mean = (0.153, 0.153, 0.153)
    config.augment.std = (0.307, 0.307, 0.307)
    config.loss.class_reduction = "sum"
    config.loss.label_smoothing = 0.0
    config.optim.learning_rate = 0.1
    config.optim.weight_decay = 5e-4
    config.schedule.warmup = "2 epochs"
    config.eval.batch_size = 500
    config.eval.every = "20 percent"
    config.checkpoint.every = "20 percent"
    config.log.every = "1 epochs"
    return config

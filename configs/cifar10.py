"""ResNet-18 with the CIFAR stem on CIFAR-10, for one accelerator.

Command:   python launch.py --config=configs/cifar10.py
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
Hardware:  one GPU or TPU; on a CPU take configs/cifar10_cpu.py.
Accuracy:  aims at 94 % top-1 or more; not yet run by this project.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.batch_size = 512
    config.duration = "60 epochs"
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.dtype = "bfloat16"
    config.model.bn_group_size = 64
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.cache = True
    config.augment.flip = True
    config.augment.pad = 4
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.4
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.eval.batch_size = 1000
    config.eval.every = "5 epochs"
    config.checkpoint.every = "5 epochs"
    config.log.every = "1 epochs"
    return config

"""A wide ResNet-8 on CIFAR-10, for two CPU cores and half an hour.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=configs/cifar10_cpu.py
           (two devices of one core each: XLA splits a small batch over devices better than one
           device splits it over cores: 813 against 504 images/s side by side)
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
Hardware:  2 CPU cores (AMD EPYC virtual machine), 24 minutes, 726 images/s.
Accuracy:  86.58 % top-1 (8,658 of 10,000), one run, seed 0, on the test images re-encoded as JPEG.
           (Since then parameters have other names, so a seed draws other initial values.)
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.batch_size = 64
    config.duration = "20 epochs"
    config.model.name = "resnet8"
    config.model.width = 48
    config.model.stem = "cifar_half"
    config.model.dtype = "float32"
    config.model.bn_group_size = 32
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.cache = True
    config.augment.flip = True
    config.augment.pad = 2
    config.augment.pad_mode = "reflect"
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.schedule.name = "linear"
    config.schedule.warmup = "15 percent"
    config.eval.batch_size = 250
    config.eval.every = "4 epochs"
    config.checkpoint.every = "1 epochs"
    config.log.every = "200 steps"
    return config

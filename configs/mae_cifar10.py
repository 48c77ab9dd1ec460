"""A small masked autoencoder on CIFAR-10, for two CPU cores and an hour.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=mae_cifar10
           (two devices of one core each)
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
           Then, with labels:
           python launch.py --config=mae_cifar10 --workdir=runs/classes \\
               --config.task=classification --config.finetune.weights=runs/mae_cifar10 \\
               --config.finetune.mode=layerwise --config.model.drop_path=0.1
Hardware:  2 CPU cores. A step takes 6.5 ms of CPU time an image; with both cores for itself it
           would do about 300 images/s.
Accuracy:  not yet run. What is told are the pixels themselves (mae.norm_pixels = False), for the
           pictures; for features set it to True.
"""

from imagenet_jax.config import base_config


def get_config():
    config = base_config()
    config.task = "mae"
    config.batch_size = 128
    config.duration = "15 epochs"
    config.model.name = "vit_ti16"
    config.model.patch = 4
    config.model.depth = 4
    config.model.pool = "avg"
    config.model.pos_embed = "sincos2d"
    config.model.kernel_init = "xavier"
    config.model.dtype = "float32"
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "random_resized_crop"
    config.data.crop_area = (0.5, 1.0)
    config.data.resize_method = "bicubic"
    config.data.eval_crop = "none"
    config.augment.flip = True
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.mae.mask_ratio = 0.75
    config.mae.norm_pixels = False
    config.mae.decoder_depth = 2
    config.mae.decoder_width = 96
    config.mae.decoder_heads = 3
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.b2 = 0.95
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@timm", "^mask_token$")
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 percent"
    config.eval.batch_size = 250
    config.eval.every = "50 percent"
    config.checkpoint.every = "5 percent"
    config.log.every = "50 steps"
    return config

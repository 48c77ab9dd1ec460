"""Features of CIFAR-10 that are learnt without labels, for two CPU cores: SimCLR or BYOL.

Command:   JAX_NUM_CPU_DEVICES=2 python launch.py --config=pretrain_cifar10
           JAX_NUM_CPU_DEVICES=2 python launch.py --config=pretrain_cifar10:byol
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
           Then, with labels of a hundredth of the images:
           python launch.py --config=cifar10_cpu --config.model.width=32 --workdir=runs/tuned \\
               --config.finetune.weights=runs/pretrain_cifar10 --config.duration="100 epochs" \\
               --config.data.labelled_fraction=0.01 --config.optim.learning_rate=0.02
Hardware:  2 CPU cores, 60 minutes beside other work: 373 images/s; 443 with both cores alone.
Accuracy:  SimCLR, one run: 62.8 % of the test images by a linear probe, 62.4 % by nearest
           neighbours; with random weights 37.1 and 33.1 %. The classifier that starts from it and
           has the labels of 500 images: 54.4 %; without it 42.6 %, 44.7 % in 400 epochs.
           BYOL: not run to its end; 47.0 % by a linear probe after 4 of 20 epochs, 326 images/s.
"""

from imagenet_jax.config import base_config


def get_config(task: str = "simclr"):
    config = base_config()
    config.task = task
    config.batch_size = 256
    config.duration = "25 epochs"
    config.model.name = "resnet8"
    config.model.width = 32
    config.model.stem = "cifar_half"
    config.model.dtype = "float32"
    config.model.bn_group_size = 0
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "random_resized_crop"
    config.data.crop_area = (0.2, 1.0)
    config.data.eval_crop = "none"
    config.data.crops = 2
    config.augment.flip = True
    config.augment.brightness = 0.4
    config.augment.contrast = 0.4
    config.augment.saturation = 0.4
    config.augment.hue = 0.1
    config.augment.jitter_share = 0.8
    config.augment.grayscale = 0.2
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.pretrain.hidden = 512
    config.pretrain.temperature = 0.2
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-3
    config.optim.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 percent"
    config.eval.batch_size = 1000
    config.eval.every = "5 epochs"
    config.eval.linear_probe = True
    config.checkpoint.every = "1 epochs"
    config.log.every = "50 steps"
    if task == "byol":
        config.augment.view_solarize = (0.0, 0.2)
        config.pretrain.predictor = 512
        config.ema_decay = 0.99
        config.ema_ramp = "cosine"
        config.eval.weights = "raw"
    return config

"""solo-learn's CIFAR-10: ResNet-18 without labels by SimCLR, BYOL, SimSiam, MoCo v3 or DINO.

Command:   python launch.py --config=solo_learn:simclr --workdir=DIR
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
           python launch.py evaluate --workdir=DIR --probe
Hardware:  one GPU in the source.
Accuracy:  top-1 of a linear layer that learns beside the network from the same views, published;
           `linear` here is that of a logistic regression afterwards.
Deviation: the stem is padded by 1, theirs by 2; both views go through the network together, so
           that BatchNorm sees them as one batch; bfloat16 in place of float16; the last images of
           an epoch that fill no batch begin the next one, theirs are left out. SimSiam: the rate
           of the predictor falls with that of the others, where theirs stays; the last BatchNorm
           of its projector, and MoCo v3's, has scale and shift.
"""

from imagenet_jax.config import base_config
from imagenet_jax.config.recipe import Published, two_views

SOURCE = "vturrisi/solo-learn 9187ea3 scripts/pretrain/cifar, README.md"
_LINEAR = "linear layer, CIFAR-10"
RECIPES = {
    "simclr": Published(90.74, SOURCE, spread=_LINEAR),
    "byol": Published(92.58, SOURCE, spread=_LINEAR),
    "simsiam": Published(90.51, SOURCE, spread=_LINEAR),
    "moco_v3": Published(93.10, SOURCE, spread=_LINEAR),
    "dino": Published(89.52, SOURCE, spread=_LINEAR),
}

# Peak rate and weight decay.
_RATES = {
    "simclr": (0.4, 1e-4),
    "byol": (1.0, 1e-5),
    "simsiam": (0.5, 1e-5),
    "moco_v3": (0.3, 1e-6),
    "dino": (0.3, 1e-6),
}


def get_config(task="simclr"):
    config = base_config()
    config.task = task
    config.batch_size = 256
    config.duration = "1000 epochs"
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.bn_group_size = 0
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.crop_area = (0.08, 1.0)
    config.data.resize_method = "bicubic"
    config.data.eval_crop = "none"
    _views(config)
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    _heads(config)
    rate, decay = _RATES[task]
    config.optim.name = "larc"
    config.optim.trust = 0.02
    config.optim.learning_rate = rate
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = decay
    if task == "simsiam":
        config.optim.name = "sgd"
        config.optim.decay_norm_and_bias = True
    config.schedule.name = "cosine"
    config.schedule.warmup = "10 epochs"
    config.schedule.warmup_start = 3e-5 / rate
    config.eval.batch_size = 1000
    config.eval.every = "50 epochs"
    config.eval.weights = "raw"
    config.eval.linear_probe = True
    config.log.every = "100 steps"
    return config


def _views(config):
    two_views(config, 1.0 if config.task == "simclr" else 0.5)
    if config.task in ("simclr", "simsiam"):
        config.augment.blur = 0.5
    else:
        config.augment.saturation = 0.2
        config.augment.view_solarize = (0.0, 0.2)


def _heads(config):
    pretrain, task = config.pretrain, config.task
    pretrain.size = 256
    pretrain.temperature = 0.1 if task == "dino" else 0.2
    if task == "simclr":
        pretrain.norm = "none"
    if task in ("byol", "moco_v3"):
        pretrain.hidden = pretrain.predictor = 4096
        pretrain.norm = "hidden" if task == "byol" else "all"
        config.ema_decay = 0.99
    if task == "simsiam":
        pretrain.layers = 3
        pretrain.size = 2048
        pretrain.norm = "all"
        pretrain.predictor = 512
    if task == "dino":
        pretrain.layers = 3
        pretrain.norm = "none"
        pretrain.prototypes = 4096
        pretrain.teacher_temperature = 0.07
        pretrain.freeze_prototypes = "1 epochs"
        config.ema_decay = 0.9995
    if config.ema_decay:
        config.ema_ramp = "cosine"

"""airbench: CIFAR-10 to 94 % in 9.9 epochs, to 95 % in 15, by a small network that learns fast.

Command:   python launch.py --config=airbench:94 --workdir=DIR
           from image files train/CLASS/* and test/CLASS/* instead of TFDS:
           --config.data.name=folder:PATH or --config.data.name=zip:FILE
Hardware:  one A100 in the source, 3.83 s (94) and 10.4 s (95).
Deviation: bfloat16 in place of float16; the last images of an epoch that fill no batch begin the
           next one, theirs are left out; the bias of the whitening convolution is trained to the
           end, theirs for 3 epochs; the filters are fitted to the first batch, theirs to 5,000
           images, and have signs of another choice; running statistics are not part of lookahead.
"""

from imagenet_jax.config import base_config
from imagenet_jax.config.recipe import Published

SOURCE = "arXiv 2404.00498; KellerJordan/cifar10-airbench f1c599c4 legacy/airbench94.py, 95.py"
RECIPES = {
    "94": Published(94.01, SOURCE, spread="mean of 1,000 runs", hardware="A100, 3.83 s"),
    "95": Published(95.01, SOURCE, spread="mean of 200 runs", hardware="A100, 10.4 s"),
}


def get_config(variant="94"):
    config = base_config()
    config.batch_size = 1024
    config.duration = {"94": "9.9 epochs", "95": "15 epochs"}[variant]
    config.model.name = f"airbench{variant}"
    config.model.bn_group_size = 1024
    config.data.name = "cifar10"
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.image_size = 32
    config.data.train_crop = "none"
    config.data.eval_crop = "none"
    config.data.cache = True
    config.augment.flip = True
    config.augment.flip_alternates = True
    config.augment.pad = 2
    config.augment.pad_mode = "reflect"
    config.augment.mean = (0.4914, 0.4822, 0.4465)
    config.augment.std = (0.2470, 0.2435, 0.2616)
    config.loss.label_smoothing = 0.2
    config.optim.name = "sgd"
    # Theirs is of the sum over 1,024 images, and by 1 + 1 / (1 - momentum) larger.
    ratio = 1 + 1 / (1 - 0.85)
    config.optim.learning_rate = {"94": 11.5, "95": 10.0}[variant] / ratio
    config.optim.momentum = 0.85
    config.optim.nesterov = True
    # Beside a gradient of the mean, so that it shrinks weights by 0.0153 / ratio a step.
    config.optim.weight_decay = 0.0153 / ratio / config.optim.learning_rate
    config.optim.decayed = ("@all",)
    config.optim.rules = (
        "whiten/kernel$ frozen",
        "/scale$ frozen",
        f"norm[12]/bias$ rate=64 decay={1 / 64}",
    )
    config.optim.lookahead = 1 - 0.95**5
    config.optim.lookahead_every = 5
    config.optim.lookahead_power = 3.0
    config.schedule.name = "linear"
    config.schedule.warmup = "23 percent"
    config.schedule.warmup_start = 0.2
    config.schedule.end = 0.07
    config.eval.tta = "mirror_shift"
    config.eval.batch_size = 1000
    config.eval.every = "1 epochs"
    config.checkpoint.every = "1 epochs"
    config.log.every = "10 steps"
    return config

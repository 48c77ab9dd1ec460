"""Training ImageNet in 1 hour (Goyal et al. 2017): 90 epochs, batches of 256 to 8,192 images.

Command:   python launch.py --config=goyal2017:8192 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  256 P100 for an hour (8192), 8 P100 for 29 hours (256); 32 images each.
Deviation: bfloat16, theirs float32. Their error is the median of the last 5 epochs, here the last
           one counts.
Unknown:   the interpolation of their crops; bilinear is taken. Crops, flips and normalisation are
           all that the paper names: no colour jitter, which fb.resnet.torch has.
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "arXiv 1706.02677, sections 2.2, 5.1 and figure 3"
_FIVE = "five runs, +- {}"
RECIPES = {
    "256": Published(76.40, SOURCE, spread=_FIVE.format(0.12), hardware="8 x P100, 29 hours"),
    "512": Published(76.52, SOURCE, spread=_FIVE.format(0.09)),
    "1024": Published(76.47, SOURCE, spread=_FIVE.format(0.08)),
    "2048": Published(76.51, SOURCE, spread=_FIVE.format(0.11)),
    "4096": Published(76.44, SOURCE, spread=_FIVE.format(0.12)),
    "8192": Published(76.26, SOURCE, spread=_FIVE.format(0.09), hardware="256 x P100, 1 hour"),
}


def get_config(variant="256"):
    config = imagenet_config("resnet50")
    config.batch_size = int(variant)
    config.duration = "90 epochs"
    config.model.zero_init_residual = True
    config.model.head_std = 0.01
    config.model.bn_group_size = 32
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1 * config.batch_size / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.decayed = ("@not_norms",)
    config.schedule.name = "step"
    config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    config.schedule.factor = 0.1
    if config.batch_size > 256:
        config.schedule.warmup = "5 epochs"
        config.schedule.unit = "rate"
        config.schedule.warmup_start = 0.1
    return config

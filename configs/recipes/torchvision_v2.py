"""torchvision's new recipe (the weights IMAGENET1K_V2): 600 epochs, TrivialAugment, mixing, EMA.

Command:   python launch.py --config=torchvision_v2 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 128 images in the source.
Deviation: activations in bfloat16, the source in float32;
           pairs of neighbours are mixed, the source mixes with the image before in the batch;
           the average moves after every 32 steps of the run, theirs after the first, 33rd, ... of
           each epoch;
           a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "pytorch/vision references/classification; pytorch.org/blog, 'How to train SOTA models'"
RECIPES = {
    "resnet50": Published(80.858, SOURCE, spread="the best of three runs"),
    "resnet101": Published(81.886, SOURCE),
    "resnet152": Published(82.284, SOURCE),
    "resnext50_32x4d": Published(81.198, SOURCE),
    "resnext101_32x8d": Published(82.834, SOURCE),
    "wide_resnet50_2": Published(81.602, SOURCE),
}


def get_config(variant="resnet50"):
    config = imagenet_config(variant)
    config.batch_size = 1024
    config.duration = "600 epochs"
    config.ema_decay = 1 - 0.00002 * 1024 * 32 / 600  # of 0.99998, as they scale it
    config.ema_every = 32
    config.ema_ramp = "none"
    config.ema_start = "5 epochs"
    config.model.zero_init_residual = False
    config.model.bn_group_size = 128
    config.data.train_size = 176
    config.data.eval_resize = 232
    config.data.policy = "trivialaugment"
    config.data.repeats = 4
    config.augment.erase = 0.1
    config.augment.erase_mode = "zero"
    config.augment.mixup = 0.2
    config.augment.cutmix = 1.0
    config.augment.switch_prob = 0.5
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.1
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.5
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 2e-5
    config.optim.decayed = ("@not_norms",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_start = 0.01
    config.schedule.interval = "epoch"
    return config

"""torchvision's Swin transformers: 300 epochs of AdamW, TrivialAugment, mixing, EMA.

Command:   python launch.py --config=torchvision_swin:t --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs x 128 images in the source.
Deviation: bfloat16 in place of float16 with loss scaling;
           patches start from N(0, 1 / inputs), theirs from a uniform distribution of a third of
           that variance;
           pairs of neighbours are mixed, the source mixes with the image before in the batch;
           the average moves after every 32 steps of the run, theirs after the first, 33rd, ... of
           each epoch;
           the policy's rotations and shears take the nearest pixel, theirs interpolate;
           a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "pytorch/vision references/classification (README, train.py); weights of 0.28.0"
RECIPES = {
    "t": Published(81.474, SOURCE),
    "s": Published(83.196, SOURCE),
    "b": Published(83.582, SOURCE),
}


def get_config(variant="t"):
    config = imagenet_config(f"swin_{variant}")
    config.batch_size = 1024
    config.duration = "300 epochs"
    config.ema_decay = 1 - 0.00002 * 1024 * 32 / 300  # of 0.99998, as they scale it
    config.ema_every = 32
    config.ema_ramp = "none"
    config.ema_start = "20 epochs"
    config.data.eval_resize = {"t": 232, "s": 246, "b": 238}[variant]
    config.data.resize_method = "bicubic"
    config.data.policy = "trivialaugment"
    config.data.repeats = 4
    config.augment.erase = 0.25
    config.augment.erase_mode = "zero"
    config.augment.mixup = 0.8
    config.augment.cutmix = 1.0
    config.augment.switch_prob = 0.5
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.1
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@torchvision",)
    config.optim.clip_norm = 5.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "20 epochs"
    config.schedule.warmup_start = 0.01
    config.schedule.end = 0.01  # 1e-5
    config.schedule.interval = "epoch"
    return config

"""torchvision's ViTs: 300 epochs of AdamW, RandAugment or AutoAugment, mixing, EMA.

ViT-L/16 has the recipe of torchvision_v2.

Command:   python launch.py --config=torchvision_vit:b16 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  64 GPUs x 64 images in the source, 16 x 256 for b32.
Deviation: bfloat16 in place of float16 with loss scaling;
           pairs of neighbours are mixed, the source mixes with the image before in the batch;
           the average moves after every 32 steps of the run, theirs after the first, 33rd, ... of
           each epoch;
           kernels of the attention start from LeCun's uniform range, theirs from Xavier's of q, k
           and v together, a half of that variance, and the last from a third of it;
           the policy's rotations and shears take the nearest pixel, theirs interpolate;
           a JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft).
"""

from imagenet_jax.config.recipe import Published, imagenet_config

SOURCE = "pytorch/vision references/classification (README, train.py); weights of 0.28.0"
RECIPES = {
    "b16": Published(81.072, SOURCE, hardware="64 GPUs"),
    "b32": Published(75.912, SOURCE, hardware="16 GPUs"),
    "l32": Published(76.972, SOURCE, hardware="64 GPUs"),
}


def get_config(variant="b16"):
    config = imagenet_config(f"vit_{variant}")
    config.batch_size = 4096
    config.duration = "300 epochs"
    config.ema_decay = 1 - 0.00002 * 4096 * 32 / 300  # of 0.99998, as they scale it
    config.ema_every = 32
    config.ema_ramp = "none"
    config.ema_start = "30 epochs"
    config.model.kernel_init = "xavier"
    config.data.policy = "autoaugment" if variant == "b32" else "randaugment"
    config.data.policy_ops = 2
    config.data.policy_magnitude = 9
    config.data.repeats = 3
    config.augment.mixup = 0.2
    config.augment.cutmix = 1.0
    config.augment.switch_prob = 0.5
    config.augment.mix_per = "batch"
    config.loss.label_smoothing = 0.11
    config.optim.name = "adamw"
    config.optim.learning_rate = 3e-3
    config.optim.weight_decay = 0.3
    config.optim.decayed = ("@all",)
    config.optim.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "30 epochs"
    config.schedule.warmup_start = 0.033
    config.schedule.interval = "epoch"
    return config

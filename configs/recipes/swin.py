"""Swin transformers on ImageNet alone, as their authors train them.

Command:   python launch.py --config=swin:t --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  8 GPUs of 32 GB; on fewer raise accumulate.
Deviation: bfloat16 in place of float16 with loss scaling; pairs of neighbours are mixed, theirs
           with the batch in reverse; patches start from N(0, 1 / inputs), theirs from a uniform
           distribution of a third of that variance. Left out is 384 pixels, whose windows are of
           another size than those of the weights.
Note:      warmup_start and end are 5e-7 and 5e-6 per 512 images, as is the rate. The warmup takes
           the place of the cosine's beginning, as in v1.0.0, of which the published runs are;
           22e57f4 later made a choice of it, whose default is the cosine behind the warmup.
"""

from imagenet_jax.config.recipe import Published, deit_augmentation, imagenet_config

SOURCE = "arXiv 2103.14030; microsoft/Swin-Transformer f82860bf config.py, get_started.md"
RECIPES = {
    "t": Published(81.2, SOURCE, spread="81.39 as timm evaluates"),
    "s": Published(83.2, SOURCE),
    "b": Published(83.5, SOURCE),
}


def get_config(variant="t"):
    config = imagenet_config(f"swin_{variant}")
    config.batch_size = 1024
    config.duration = "300 epochs"
    config.model.drop_path = {"t": 0.2, "s": 0.3, "b": 0.5}[variant]
    deit_augmentation(config)
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3  # 5e-4 per 512 images
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@timm",)
    config.optim.clip_norm = 5.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "20 epochs"
    config.schedule.warmup_prefix = False
    config.schedule.unit = "rate"
    config.schedule.warmup_start = 1e-6
    config.schedule.end = 1e-5
    return config

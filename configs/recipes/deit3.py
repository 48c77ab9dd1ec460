"""DeiT III: ViTs by LAMB, binary cross-entropy, three plain augmentations and layer scale.

Command:   python launch.py --config=deit3:s --workdir=DIR --config.data.dir=TFDS_DIR
           b and l are trained with fewer pixels first, then fine-tuned, as is all with 384:
           python launch.py --config=deit3:b_192 --workdir=FIRST ...
           python launch.py --config=deit3:b --workdir=DIR --config.finetune.weights=FIRST ...
           python launch.py --config=deit3:b_384 --workdir=NEXT --config.finetune.weights=DIR ...
Hardware:  8 accelerators of 32 GB (s, b), 32 (l).
Deviation: bfloat16 in place of float16 with loss scaling; pairs of neighbours are mixed, theirs
           with the batch in reverse; the class token has a position, too; no average of the
           weights is kept, which they do not report; the rate of an epoch is theirs of the next
           one, as they set it at an epoch's end; patches start from N(0, 1 / inputs), theirs from
           a uniform distribution of a third of that variance, the token from 0, not N(0, 0.02).
           Left out are the runs of 400 epochs, whose constants are not in their repository, and
           the sizes M, which has no command there, and H, whose network is not here.
"""

from imagenet_jax.config.recipe import Published, deit_augmentation, imagenet_config

SOURCE = "arXiv 2204.07118; facebookresearch/deit 7e160fe4 README_revenge.md, augment.py"
RECIPES = {
    "s": Published(81.4, SOURCE),
    "b_192": Published(82.82, f"{SOURCE}; its log"),
    "b": Published(83.8, SOURCE),
    "l_192": Published(84.02, f"{SOURCE}; its log"),
    "l": Published(84.9, SOURCE),
    "s_384": Published(83.4, SOURCE),
    "b_384": Published(85.0, SOURCE),
    "l_384": Published(85.8, SOURCE),
}
# What a fine-tuning starts from, and rates of stochastic depth.
BEFORE = {"b": "b_192", "l": "l_192", "s_384": "s", "b_384": "b", "l_384": "l"}
DROP_PATH = {
    **{"s": 0.05, "b_192": 0.2, "l_192": 0.45, "b": 0.2, "l": 0.45},
    **{"s_384": 0.0, "b_384": 0.15, "l_384": 0.4},
}


def get_config(variant="s"):
    size, _, pixels = variant.partition("_")
    config = imagenet_config(f"vit_{size}16")
    config.data.image_size = config.data.eval_resize = int(pixels or 224)
    config.model.layer_scale = 1e-4
    config.model.uniform_drop_path = DROP_PATH[variant]
    config.model.head_std = 0.02
    deit_augmentation(config)
    config.augment.erase = 0.0
    config.optim.eps = 1e-8
    config.optim.decayed = ("@timm",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_prefix = False
    config.schedule.interval = "epoch"
    config.schedule.unit = "rate"
    config.schedule.warmup_start = 1e-6
    config.schedule.end = 1e-5
    if variant in BEFORE:
        return _fine_tuned(config, variant)
    config.batch_size = 2048
    config.duration = "800 epochs"
    config.data.policy = ""
    config.data.repeats = 3
    config.augment.three_augment = True
    config.augment.brightness = config.augment.contrast = config.augment.saturation = 0.3
    config.loss.name = "sigmoid"
    config.loss.class_reduction = "mean"
    config.loss.target_threshold = 1e-6  # what is in a mixed image counts as 1
    config.loss.label_smoothing = 0.0
    config.optim.name = "lamb"  # apex's, with its clipping
    config.optim.learning_rate = 4e-3 if size == "s" else 3e-3
    config.optim.weight_decay = 0.05
    config.optim.clip_norm = 1.0
    return config


def _fine_tuned(config, variant):
    config.finetune.weights = f"WORKDIR_OF_deit3_{BEFORE[variant]}"
    config.batch_size = 512
    config.duration = "20 epochs"
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-5  # where the cosine ends, too
    config.optim.weight_decay = 0.1
    return config

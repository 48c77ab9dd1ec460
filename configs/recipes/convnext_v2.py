"""ConvNeXt V2: fine-tuning of what masked autoencoders (FCMAE) learnt of ImageNet.

Command:   python launch.py --config=convnext_v2:t --workdir=DIR --config.data.dir=TFDS_DIR
               --config.finetune.weights=FILE
           FILE is timm's of convnextv2_tiny.fcmae (convnextv2_base.fcmae).
Hardware:  32 GPUs; on fewer raise accumulate.
Deviation: bfloat16 in place of float16 with loss scaling; pairs of neighbours are mixed, theirs
           with the batch in reverse; the head starts from N(0, 2e-5), theirs cut at 2. Left out
           are atto, whose network is not here, and the others, whose commands are not in their
           repository.
"""

from imagenet_jax.config.recipe import Published, deit_augmentation, imagenet_config

SOURCE = "arXiv 2301.00808; facebookresearch/ConvNeXt-V2 25538957 TRAINING.md, main_finetune.py"
RECIPES = {
    "t": Published(83.0, SOURCE, spread="82.95 as timm evaluates"),
    "b": Published(84.9, SOURCE, spread="84.89 as timm evaluates"),
}


def get_config(variant="t"):
    name = {"t": "convnextv2_tiny", "b": "convnextv2_base"}[variant]
    config = imagenet_config(name)
    config.finetune.weights = f"{name}.fcmae.safetensors"
    config.finetune.mode = "layerwise"
    config.batch_size = 1024
    config.ema_decay = 0.9999
    config.ema_ramp = "none"
    config.model.head_std = 2e-5
    deit_augmentation(config)
    config.optim.name = "adamw"
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@timm",)
    config.schedule.name = "cosine"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-6
    if variant == "t":
        config.duration = "300 epochs"
        config.model.drop_path = 0.2
        config.finetune.layer_decay = 0.9
        config.finetune.layer_groups = 0
        config.optim.rules = (f"^stem rate={1 / 0.9}",)  # it is of the first block's depth
        config.optim.learning_rate = 3.2e-3  # 8e-4 per 256 images
        config.schedule.warmup = "40 epochs"
    else:
        config.duration = "100 epochs"
        config.model.drop_path = 0.1
        config.finetune.layer_decay = 0.6
        config.finetune.layer_groups = 12
        config.optim.learning_rate = 2.5e-3  # 6.25e-4 per 256 images
        config.schedule.warmup = "20 epochs"
    return config

"""ConvNeXt on ImageNet alone, and fine-tuned with 384 pixels.

Command:   python launch.py --config=convnext:t --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py --config=convnext:b_384 ... --config.finetune.weights=DIR
           DIR being that of convnext:b, or timm's file of convnext_base.fb_in1k.
Hardware:  32 GPUs, 64 (l); 16 for 384 pixels; on fewer raise accumulate.
Deviation: float32 in their default, bfloat16 here; pairs of neighbours are mixed, theirs with the
           batch in reverse.
"""

from imagenet_jax.config.recipe import Published, deit_augmentation, imagenet_config

SOURCE = "arXiv 2201.03545; facebookresearch/ConvNeXt 048efcea TRAINING.md, main.py"
RECIPES = {
    "t": Published(82.1, SOURCE, spread="82.07 as timm evaluates"),
    "s": Published(83.1, SOURCE, spread="83.14 as timm evaluates"),
    "b": Published(83.8, SOURCE, spread="83.84 as timm evaluates"),
    "l": Published(84.3, SOURCE, spread="84.30 as timm evaluates"),
    "b_384": Published(85.1, SOURCE),
    "l_384": Published(85.5, SOURCE),
}
MODELS = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
DROP_PATH = {"t": 0.1, "s": 0.4, "b": 0.5, "l": 0.5, "b_384": 0.8, "l_384": 0.95}


def get_config(variant="t"):
    size, _, fine_tuned = variant.partition("_")
    config = imagenet_config(f"convnext_{MODELS[size]}")
    config.batch_size = 4096
    config.duration = "300 epochs"
    config.ema_decay = 0.9999
    config.ema_ramp = "none"
    config.model.drop_path = DROP_PATH[variant]
    deit_augmentation(config)
    config.optim.name = "adamw"
    config.optim.learning_rate = 4e-3
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.optim.decayed = ("@timm",)
    config.schedule.name = "cosine"
    config.schedule.warmup = "20 epochs"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-6
    if fine_tuned:
        config.finetune.weights = f"convnext_{MODELS[size]}.fb_in1k.safetensors"
        config.finetune.mode = "layerwise"
        config.finetune.layer_decay = 0.7
        config.batch_size = 512
        config.duration = "30 epochs"
        config.ema_decay = 0.0
        config.ema_ramp = "tensorflow"
        config.data.image_size = 384
        config.data.eval_crop = "resize"
        config.data.eval_resize = 0
        config.augment.mixup = config.augment.cutmix = 0.0
        config.optim.learning_rate = 5e-5
        config.optim.weight_decay = 1e-8
        config.schedule.warmup = "0 epochs"
    return config

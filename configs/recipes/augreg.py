"""AugReg: ViTs on ImageNet alone, each with as much augmentation as suits its size.

Command:   python launch.py --config=augreg:b16 --workdir=DIR --config.data.dir=TFDS_DIR
Hardware:  a TPU of 32 cores or more; on less raise accumulate.
Deviation: activations in bfloat16, theirs in float32 (products in bfloat16 on a TPU); random crops
           as torchvision draws them (uniform area, log-uniform ratio), theirs as TensorFlow does; a
           JPEG's crop may be decoded at a half, a quarter or an eighth (data.draft); mixup within
           pairs of neighbours, theirs with the image before in the batch; the class token has a
           position, too, and positions start from N(0, 0.02), theirs from N(0, 1 / width).
Note:      no dropout, no stochastic depth; with them the paper's B/32, B/16, L/16 are better.
"""

from imagenet_jax.config.recipe import Published, big_vision_images, imagenet_config

SOURCE = "arXiv 2106.10270; google-research/big_vision 0127fb6b configs/vit_i1k.py"
RECIPES = {
    "ti16": Published(None, SOURCE),
    "s32": Published(None, SOURCE),
    "s16": Published(None, SOURCE),
    "b32": Published(None, SOURCE),
    "b16": Published(79.0, f"{SOURCE}; issue 7 there", spread="'around'"),
    "l16": Published(None, SOURCE),
}
# Level of RandAugment and alpha of mixup.
LIGHT_1, MEDIUM_1, MEDIUM_2 = (0, 0.0), (15, 0.2), (15, 0.5)
AUGMENTATION = {"ti16": LIGHT_1, "s32": MEDIUM_1}  # of others MEDIUM_2
WIDTH = {"ti": 192, "s": 384, "b": 768, "l": 1024}


def get_config(variant="b16"):
    level, mixup = AUGMENTATION.get(variant, MEDIUM_2)
    config = imagenet_config(f"vit_{variant}")
    config.batch_size = 4096
    config.duration = "300 epochs"
    config.model.representation_size = WIDTH[variant.rstrip("0123456789")]
    config.model.kernel_init = "xavier"
    config.model.tanh_gelu = True
    config.model.fast_variance = True
    config.model.head_bias = -6.9
    big_vision_images(config)
    config.data.policy = "randaugment_tf"
    config.data.policy_ops = 2
    config.data.policy_magnitude = level
    config.augment.mixup = mixup
    config.augment.mix_per = "batch"
    config.loss.name = "sigmoid"
    config.loss.class_reduction = "sum"
    config.optim.name = "adamw"
    config.optim.learning_rate = 1e-3
    config.optim.eps = 1e-8
    config.optim.momentum_dtype = "bfloat16"
    config.optim.decay_coupling = "schedule"
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "10000 steps"
    return config

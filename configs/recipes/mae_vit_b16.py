"""Masked autoencoders: a ViT-B/16 that fills in hidden patches of ImageNet, then is fine-tuned.

Command:   python launch.py --config=mae_vit_b16:pretrain --workdir=FIRST --config.data.dir=TFDS_DIR
           python launch.py --config=mae_vit_b16:finetune --workdir=DIR --config.data.dir=TFDS_DIR
               --config.finetune.weights=FIRST
Hardware:  8 accelerators of 32 GB to pre-train, of 16 GB to fine-tune; on fewer raise accumulate.
           Theirs took 7 h to fine-tune on 32 V100s.
Deviation: bfloat16 in place of float16 with loss scaling; no class token, through which theirs
           looks, too, and whose output it does not use in fine-tuning; frequencies of sines and
           cosines to 1 / 10,000, theirs nearly there; q, k and v start from Xavier's range each,
           theirs of the three together, and biases of the MLPs from N(0, 1e-6), theirs from 0;
           pairs of neighbours are mixed in fine-tuning, theirs with the batch in reverse.
Note:      83.57 is the mean of their runs after 1,600 epochs of pre-training, as
           mae_vit_b16:pretrain_1600; of 800 epochs of this size they report nothing. To draw what
           is filled in, set mae.norm_pixels = False, as they did.
"""

from imagenet_jax.config.recipe import Published, deit_augmentation, imagenet_config

SOURCE = "arXiv 2111.06377; facebookresearch/mae efb2a806"
RECIPES = {
    "pretrain": Published(None, f"{SOURCE} PRETRAIN.md"),
    "pretrain_1600": Published(None, f"{SOURCE} PRETRAIN.md"),
    "finetune": Published(
        83.57, f"{SOURCE} FINETUNE.md", spread="std 0.08 of 4 runs; of 1,600 epochs before"
    ),
}


def get_config(variant="pretrain"):
    config = imagenet_config("vit_b16")
    config.model.pool = "avg"
    config.data.resize_method = "bicubic"
    config.data.eval_resize_method = "bicubic"
    config.optim.name = "adamw"
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.05
    config.schedule.name = "cosine"
    if variant == "finetune":
        return _fine_tuned(config)
    config.task = "mae"
    config.batch_size = 4096
    config.duration = "1600 epochs" if variant == "pretrain_1600" else "800 epochs"
    config.model.pos_embed = "sincos2d"
    config.model.kernel_init = "xavier"
    config.data.crop_area = (0.2, 1.0)
    config.mae.mask_ratio = 0.75
    config.mae.norm_pixels = True
    config.mae.decoder_depth = 8
    config.mae.decoder_width = 512
    config.mae.decoder_heads = 16
    config.optim.learning_rate = 2.4e-3  # 1.5e-4 per 256 images
    config.optim.b2 = 0.95
    config.optim.decayed = ("@timm", "^mask_token$")
    config.schedule.warmup = "40 epochs"
    config.eval.every = "40 epochs"  # which looks at all images, and at all of each
    return config


def _fine_tuned(config):
    config.finetune.weights = "WORKDIR_OF_mae_vit_b16_pretrain_1600"
    config.finetune.mode = "layerwise"
    config.finetune.layer_decay = 0.65
    config.batch_size = 1024
    config.duration = "100 epochs"
    config.model.drop_path = 0.1
    config.model.head_std = 2e-5
    deit_augmentation(config)
    config.optim.learning_rate = 2e-3  # 5e-4 per 256 images
    config.optim.decayed = ("@timm",)
    config.schedule.warmup = "5 epochs"
    config.schedule.unit = "rate"
    config.schedule.end = 1e-6
    return config

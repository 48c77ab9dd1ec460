"""DINO of ViT-S/16 on ImageNet, without labels.

Command:   python launch.py --config=dino_vit_s16:100 --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py evaluate --workdir=DIR --probe
Hardware:  8 GPUs, 1.75 days for 100 epochs; 16 GPUs, 2.6 days for 300.
Accuracy:  100 epochs: 69.3 % top-1 of nearest neighbours, about 73.8 % of a linear layer on the
           features; 300 epochs: 73.3 and 76.1 %, published.
Deviation: the last layer's directions are normalised in both, where theirs are not in the one of
           300 epochs; it decays while its gradient is held back; the gradient is
           clipped as a whole, theirs for each parameter; the teacher drops paths as the
           student does; the temperature rises at each step and not at each epoch; the class
           token starts from 0, theirs from N(0, 0.02).
"""

from imagenet_jax.config.recipe import Published, byol_views, imagenet_config

SOURCE = "arXiv 2104.14294; facebookresearch/dino 00e1bccc README.md, 04c0ad95 main_dino.py"
RECIPES = {
    "100": Published(73.8, SOURCE, spread="linear probe; 69.3 kNN", hardware="8 GPUs, 1.75 days"),
    "300": Published(76.1, SOURCE, spread="linear probe; 73.3 kNN", hardware="16 GPUs, 2.6 days"),
}


def get_config(epochs="300"):
    config = imagenet_config("vit_s16")
    config.task = "dino"
    config.batch_size = 512 if epochs == "100" else 1024
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = 0
    config.model.drop_path = 0.1
    config.data.crop_area = (0.4, 1.0)
    config.data.resize_method = "bicubic"
    byol_views(config)
    config.augment.view_blur = (1.0, 0.1, 0.5)
    config.augment.view_solarize = (0.0, 0.2, 0.0)
    config.data.local_crops = 8
    config.data.local_size = 96
    config.data.local_area = (0.05, 0.4)
    config.pretrain.layers = 3
    config.pretrain.size = 256
    config.pretrain.norm = "none"
    config.pretrain.temperature = 0.1
    config.pretrain.prototypes = 65536
    config.pretrain.teacher_temperature = 0.04 if epochs == "100" else 0.07
    config.pretrain.teacher_warmup = "" if epochs == "100" else "30 epochs"
    config.pretrain.freeze_prototypes = "1 epochs"
    config.ema_decay = 0.996
    config.ema_ramp = "cosine"
    config.optim.name = "adamw"
    config.optim.learning_rate = 0.0005 * config.batch_size / 256
    config.optim.weight_decay = 0.04
    config.optim.weight_decay_end = 0.4
    config.optim.decayed = ("@kernels", "@embeddings")
    config.optim.clip_norm = 3.0
    config.schedule.name = "cosine"
    config.schedule.warmup = "10 epochs"
    config.schedule.end = 1e-6
    config.schedule.unit = "rate"
    config.eval.every = "10 epochs"
    return config

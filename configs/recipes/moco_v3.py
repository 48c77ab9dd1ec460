"""MoCo v3 of ResNet-50 and ViT-S/16 on ImageNet, without labels.

Command:   python launch.py --config=moco_v3:resnet50_300 --workdir=DIR --config.data.dir=TFDS_DIR
           python launch.py evaluate --workdir=DIR --probe
Hardware:  16 V100 with 32 GB (ResNet-50); 8 of them (ViT-S with 1,024 images a batch).
Accuracy:  68.9, 72.8 and 74.6 % top-1 of a linear layer on ResNet-50's features after 100, 300 and
           1,000 epochs; 73.2 % on those of a ViT-S (4,096 images a batch), published.
Deviation: the last BatchNorms of the projector and of the ViT's predictor have scale and shift,
           the last layer of ResNet-50's predictor has a bias; both views go through the network
           together; the teacher moves after the step. ViT: q, k and v start from Xavier's range
           each, theirs of the three together; the projection of the patches, which stays as it
           starts, is drawn from a normal distribution, theirs from a uniform one.
"""

from imagenet_jax.config.recipe import Published, byol_views, imagenet_config

SOURCE = "arXiv 2104.02057; facebookresearch/moco-v3 38aae447 CONFIG.md, 7074f47f main_moco.py"
_LINEAR = "linear probe"
RECIPES = {
    "resnet50_100": Published(68.9, SOURCE, spread=_LINEAR, hardware="16 V100"),
    "resnet50_300": Published(72.8, SOURCE, spread=_LINEAR, hardware="16 V100"),
    "resnet50_1000": Published(74.6, SOURCE, spread=_LINEAR, hardware="16 V100"),
    "vit_s16": Published(73.2, SOURCE, spread=_LINEAR, hardware="32 V100"),
}

# Rate for 256 images, weight decay and decay of the average, by epochs.
_SETTINGS = {"100": (0.6, 1e-6, 0.99), "300": (0.3, 1e-6, 0.99), "1000": (0.3, 1.5e-6, 0.996)}


def get_config(variant="resnet50_300"):
    model, _, epochs = variant.rpartition("_") if variant != "vit_s16" else ("vit_s16", "", "300")
    config = imagenet_config(model)
    config.task = "moco_v3"
    config.batch_size = 4096
    config.duration = f"{epochs} epochs"
    config.model.bn_group_size = 0
    config.data.crop_area = (0.2, 1.0)
    byol_views(config)
    config.pretrain.hidden = config.pretrain.predictor = 4096
    config.pretrain.size = 256
    config.pretrain.norm = "all"
    config.ema_decay = 0.99
    config.ema_ramp = "cosine"
    config.schedule.name = "cosine"
    config.eval.weights = "raw"
    config.eval.every = "10 epochs"
    if model == "vit_s16":
        config.model.heads = 12
        config.model.kernel_init = "xavier"
        config.model.pos_embed = "sincos2d"
        config.model.drop_path = 0.0
        config.data.crop_area = (0.08, 1.0)
        config.pretrain.layers = 3
        config.pretrain.predictor_norm = "all"
        config.pretrain.temperature = 0.2
        config.optim.name = "adamw"
        config.optim.learning_rate = 1.5e-4 * 4096 / 256
        config.optim.weight_decay = 0.1
        config.optim.decay_norm_and_bias = True
        config.optim.rules = ("^patch_embed frozen",)
        config.schedule.warmup = "40 epochs"
        return config
    rate, config.optim.weight_decay, config.ema_decay = _SETTINGS[epochs]
    config.pretrain.temperature = 1.0
    config.optim.name = "lars"
    config.optim.learning_rate = rate * 4096 / 256
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.schedule.warmup = "10 epochs"
    return config

"""Recipes without labels, as their sources have them."""

from sources.source import Course, Source, cosine
from sources.transformers import warmed

CIFAR = 50_000
NORMS = "bias|scale"


def by_steps(peak: float, total: float) -> Course:
    """Half a cosine from the first step."""
    return lambda step, length: peak * cosine(step / (total * length))


SYMMETRIC = {"augment.brightness": 0.8, "augment.hue": 0.2, "augment.blur": 0.5}
ASYMMETRIC = {
    **{"augment.brightness": 0.4, "augment.saturation": 0.2, "augment.hue": 0.1},
    **{"augment.blur": 0.0, "augment.view_blur": (), "augment.view_solarize": (0.0, 0.2)},
}
LARC = {"optim.name": "larc", "optim.trust": 0.02, "optim.momentum": 0.9}

# 20 convolutions and as many norms of ResNet-18; 53 of ResNet-50; the others are of the heads.
SOURCES = {
    # vturrisi/solo-learn
    "solo_learn:simclr": Source(
        rate=warmed(0.4, 10, 1000, start=3e-5),
        decayed=(60 + 4, 20 + 2),
        undecayed=NORMS,
        fields={
            **SYMMETRIC | LARC,
            **{"optim.weight_decay": 1e-4, "pretrain.temperature": 0.2, "pretrain.size": 256},
            **{"pretrain.hidden": 2048, "pretrain.norm": "none", "data.crop_area": (0.08, 1.0)},
        },
        num_examples=CIFAR,
    ),
    "solo_learn:byol": Source(
        rate=warmed(1.0, 10, 1000, start=3e-5),
        decayed=(60 + 5 + 5, 20 + 2 + 2),
        undecayed=NORMS,
        fields={
            **ASYMMETRIC | LARC,
            **{"optim.weight_decay": 1e-5, "pretrain.hidden": 4096, "pretrain.predictor": 4096},
            **{"pretrain.size": 256, "ema_decay": 0.99, "ema_ramp": "cosine"},
        },
        num_examples=CIFAR,
    ),
    "solo_learn:simsiam": Source(
        rate=warmed(0.5, 10, 1000, start=3e-5),
        decayed=(60 + 9 + 5, 60 + 9 + 5),
        undecayed="",
        fields={
            **{"augment.brightness": 0.4, "augment.saturation": 0.4, "augment.blur": 0.5},
            **{"optim.name": "sgd", "optim.weight_decay": 1e-5, "optim.nesterov": False},
            **{"pretrain.layers": 3, "pretrain.size": 2048, "pretrain.predictor": 512},
        },
        num_examples=CIFAR,
    ),
    "solo_learn:moco_v3": Source(
        rate=warmed(0.3, 10, 1000, start=3e-5),
        decayed=(60 + 6 + 5, 20 + 2 + 2),
        undecayed=NORMS,
        fields={
            **ASYMMETRIC | LARC,
            **{"optim.weight_decay": 1e-6, "pretrain.hidden": 4096, "pretrain.predictor": 4096},
            **{"pretrain.temperature": 0.2, "ema_decay": 0.99, "pretrain.size": 256},
        },
        num_examples=CIFAR,
    ),
    "solo_learn:dino": Source(
        rate=warmed(0.3, 10, 1000, start=3e-5),
        decayed=(60 + 6 + 1, 20 + 3 + 1),
        undecayed=NORMS,
        fields={
            **ASYMMETRIC | LARC,
            **{"optim.weight_decay": 1e-6, "pretrain.prototypes": 4096, "pretrain.size": 256},
            **{"pretrain.temperature": 0.1, "pretrain.teacher_temperature": 0.07},
            **{"pretrain.teacher_warmup": "", "ema_decay": 0.9995, "data.local_crops": 0},
        },
        num_examples=CIFAR,
    ),
    # google-research/simclr
    "simclr_resnet50:100": Source(
        slow=True,
        rate=warmed(4.8, 10, 100),
        decayed=(159 + 9, 53 + 3),
        undecayed=NORMS,
        fields={
            **SYMMETRIC,
            **{"optim.name": "lars", "optim.trust": 0.001, "optim.weight_decay": 1e-6},
            **{"optim.nesterov": False, "pretrain.temperature": 0.1, "pretrain.size": 128},
        },
    ),
    # google-deepmind/deepmind-research
    "byol_resnet50:300": Source(
        slow=True,
        rate=warmed(4.8, 10, 300),
        decayed=(159 + 5 + 5, 53 + 2 + 2),
        undecayed=NORMS,
        fields={
            **{"optim.name": "lars", "optim.weight_decay": 1e-6, "ema_decay": 0.99},
            **{"augment.view_blur": (1.0, 0.1), "augment.view_solarize": (0.0, 0.2)},
            **{"augment.saturation": 0.2, "pretrain.hidden": 4096, "pretrain.size": 256},
        },
    ),
    # facebookresearch/moco-v3
    "moco_v3:resnet50_300": Source(
        slow=True,
        rate=warmed(4.8, 10, 300),
        decayed=(159 + 6 + 5, 53 + 2 + 2),
        undecayed=NORMS,
        fields={
            **{"optim.name": "lars", "optim.weight_decay": 1e-6, "ema_decay": 0.99},
            **{"pretrain.temperature": 1.0, "data.crop_area": (0.2, 1.0)},
        },
    ),
    "moco_v3:vit_s16": Source(
        slow=True,
        rate=warmed(2.4e-3, 40, 300),
        # 12 blocks of 12, patches, class token, the last norm; no positions, which are fixed
        decayed=(149 + 9 + 6, 149 + 9 + 6),
        undecayed="",
        fields={
            **{"optim.name": "adamw", "optim.weight_decay": 0.1, "ema_decay": 0.99},
            **{"pretrain.temperature": 0.2, "optim.rules": ("^patch_embed frozen",)},
            **{"model.heads": 12, "data.crop_area": (0.08, 1.0)},
        },
    ),
    # facebookresearch/simsiam
    "simsiam_resnet50:100": Source(
        slow=True,
        rate=by_steps(0.1, 100),
        decayed=(159 + 9 + 5, 159 + 9 + 5),
        undecayed="",
        fields={
            **{"optim.name": "sgd", "optim.weight_decay": 1e-4, "optim.nesterov": False},
            **{"pretrain.layers": 3, "pretrain.size": 2048, "pretrain.predictor": 512},
        },
    ),
    # facebookresearch/dino
    "dino_vit_s16:300": Source(
        slow=True,
        rate=warmed(2e-3, 10, 300, end=1e-6),
        decayed=(150 + 6 + 1, 48 + 3 + 3 + 1),  # patches, positions and token; names without bias
        undecayed=NORMS,
        fields={
            **{"optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4, "optim.clip_norm": 3.0},
            **{"data.local_crops": 8, "data.local_size": 96, "data.local_area": (0.05, 0.4)},
            **{"pretrain.prototypes": 65536, "pretrain.teacher_temperature": 0.07},
            **{"pretrain.teacher_warmup": "30 epochs", "ema_decay": 0.996},
        },
    ),
    # facebookresearch/mae
    "mae_vit_b16:pretrain": Source(
        slow=True,
        rate=warmed(2.4e-3, 40, 800),
        # 12 blocks, patches, norm; 8 blocks, embedding, mask token, norm and prediction
        decayed=(148 + 96 + 2 + 1 + 2 + 2, 48 + 1 + 32 + 1 + 1 + 1),
        undecayed=NORMS,
        fields={
            **{"optim.weight_decay": 0.05, "optim.b2": 0.95, "mae.mask_ratio": 0.75},
            **{"mae.norm_pixels": True, "mae.decoder_depth": 8, "mae.decoder_width": 512},
        },
    ),
}

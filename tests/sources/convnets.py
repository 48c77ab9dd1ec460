"""Recipes of ResNets and their relatives, as their sources have them."""

import math

import numpy as np
from sources import torchvision
from sources.source import Course, Source, by_epoch, cosine

_NORMS = r"bn\d*/|downsample\.1/"


def nvidia(peak: float, warmup: int, epochs: int) -> Course:
    """Its lr_cosine_policy, called with the number of the epoch."""
    return by_epoch(
        lambda e: (
            peak * (e + 1) / warmup
            if e < warmup
            else peak * 0.5 * (1 + math.cos(math.pi * (e - warmup) / (epochs - warmup)))
        )
    )


def progressive(epochs: int, initial: float, delay: float, finetune: float) -> tuple[str, ...]:
    """Composer's ProgressiveResizing of 176 pixels, whose clock is the number of the epoch."""
    stages, last = [], None
    for epoch in range(epochs):
        elapsed = epoch / epochs
        scale = initial
        if elapsed >= delay:
            scale += (1 - initial) * min(1, (elapsed - delay) / (1 - finetune - delay))
        width = round(176 * scale / 4) * 4
        if last not in (None, width):
            stages.append(f"{epoch} epochs: data.train_size={width}")
        last = width
    return tuple(stages)


def mlperf(peak: float, warmup: int, epochs: int) -> Course:
    """A rise from 0, then what is left of the run, squared, down to 1e-4."""
    return lambda s, length: (
        peak * s / (warmup * length)
        if s < warmup * length
        else 1e-4 + (peak - 1e-4) * (1 - (s / length - warmup) / (epochs - warmup)) ** 2
    )


# Programs in JAX and TensorFlow 1, and the one in TensorFlow 2.
MLPERF = {
    **{"optim.trust": 0.001, "optim.nesterov": False, "loss.label_smoothing": 0.1},
    **{"data.resize_antialias": False, "model.head_std": -1.0},
}
MLPERF_BICUBIC = MLPERF | {
    **{"model.conv_init": "lecun", "model.zero_init_residual": True},
    **{"data.resize_method": "bicubic", "data.crop_area": (0.08, 1.0), "data.eval_resize": 0},
    **{"data.eval_crop": "center_crop", "data.eval_crop_fraction": 224 / (224 + 32)},
    "augment.mean": (0.485, 0.456, 0.406),
}
MLPERF_2K = MLPERF_BICUBIC | {"data.crop_ratio": (0.75, 1.33), "data.crop_area": (0.05, 1.0)}
MLPERF_BILINEAR = MLPERF | {
    **{"model.conv_init": "fan_in", "model.zero_init_residual": False},
    **{"data.resize_method": "bilinear", "data.crop_area": (0.05, 1.0), "data.eval_resize": 256},
    **{"data.eval_crop": "resize_center_crop", "data.crop_ratio": (0.75, 1.33)},
    "augment.mean": (123.68 / 255, 116.78 / 255, 103.94 / 255),
    "augment.std": (1 / 255,) * 3,
}

SOURCES = torchvision.SOURCES | {
    # google-research/augmix
    "augmix_resnet50:180": Source(
        rate=by_epoch(lambda e: 0.1 * (1, 0.1, 0.01)[e // 60]),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"data.views": 3, "loss.jsd": 12.0, "data.policy": "augmix", "batch_size": 256},
            **{"loss.label_smoothing": 0.0, "augment.mixup": 0.0, "optim.weight_decay": 1e-4},
        },
    ),
    # timm; mmpretrain's copy
    "rsb:a3": Source(
        rate=lambda s, length: (
            8e-7 + (8e-3 - 8e-7) * s / (5 * length)
            if s < 5 * length
            else 1e-6 + (8e-3 - 1e-6) * cosine(s / (100 * length))
        ),
        decayed=(161, 54),  # of two axes and more
        undecayed="bias|scale",
        fields={
            **{"data.policy_magnitude": 6, "data.policy_magnitude_std": 0.5},
            **{"augment.mixup": 0.1, "augment.cutmix": 1.0, "data.train_size": 160},
            **{"optim.weight_decay": 0.02, "optim.clip_norm": 1.0, "loss.name": "sigmoid"},
            "model.head_std": (1 / 2048 / 3) ** 0.5,  # of torch's uniform one
        },
    ),
    # libffcv/ffcv-imagenet
    "ffcv_resnet50:16": Source(
        rate=lambda s, length: np.interp(s / length, [0, 2, 16], [1.7e-4, 1.7, 0.0]),
        decayed=(161, 63),  # what has no "bn" in its name, so the norms of four shortcuts, too
        undecayed="bn",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": False, "loss.label_smoothing": 0.1},
            **{"data.train_size": 160, "data.image_size": 256, "model.blur_pool": "conv"},
            **{"eval.tta": "mirror"},
        },
    ),
    # mlcommons/training_results_v0.7
    **{
        f"mlperf_lars:{name}": Source(
            rate=mlperf(peak, warmup, epochs),
            decayed=(161, 54),  # no BatchNorm, no bias
            undecayed="bias|scale",
            fields=fields | {"optim.weight_decay": decay, "optim.momentum": momentum},
        )
        for name, peak, warmup, epochs, decay, momentum, fields in (
            ("32k", 29.0, 18, 64, 1e-4, 0.929, MLPERF_BICUBIC),
            ("4k", 13.0, 2, 41, 2e-4, 0.9, MLPERF_BILINEAR),
            ("2k", 8.5, 5, 41, 2e-4, 0.9, MLPERF_2K),
        )
    },
    # arXiv 1706.02677
    "goyal2017:256": Source(
        rate=lambda s, length: 0.1 * 0.1 ** sum(s / length >= e for e in (30, 60, 80)),
        decayed=(161, 55),
        undecayed=_NORMS,
        fields={"optim.nesterov": True, "model.bn_group_size": 32},
    ),
    "goyal2017:8192": Source(
        rate=lambda s, length: (
            0.1 + (3.2 - 0.1) * s / (5 * length)
            if s < 5 * length
            else 3.2 * 0.1 ** sum(s / length >= e for e in (30, 60, 80))
        ),
        decayed=(161, 55),
        undecayed=_NORMS,
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": True, "optim.momentum": 0.9},
            **{"model.head_std": 0.01, "model.zero_init_residual": True},
            **{"model.bn_group_size": 32, "augment.lighting": 0.0, "augment.brightness": 0.0},
        },
    ),
    # google/flax examples/imagenet; its epochs are of whole batches
    "flax_imagenet:tpu_v3_8": Source(
        rate=lambda s, length: 0.4 * min(1, s / 6255) * cosine(max(0, s / 1251 - 5) / 95),
        decayed=(161, 54),  # of two axes and more
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": True, "loss.label_smoothing": 0.0},
            **{"duration": "125100 steps", "model.conv_init": "lecun"},
            **{"data.resize_method": "bicubic", "data.resize_antialias": False},
        },
    ),
    # NVIDIA/DeepLearningExamples
    "nvidia_resnet50:250": Source(
        rate=nvidia(2.048, warmup=8, epochs=250),
        decayed=(161, 63),  # what has no "bn" in its name, so the norms of four shortcuts, too
        undecayed="bn",
        fields={
            **{"optim.weight_decay": 3.0517578125e-05, "optim.momentum": 0.875},
            **{"optim.nesterov": False, "augment.mixup": 0.2, "loss.label_smoothing": 0.1},
            **{"model.conv_init": "fan_in", "model.zero_init_residual": False},
        },
    ),
    "nvidia_resnet50:50": Source(
        rate=nvidia(4.096, warmup=16, epochs=50),
        decayed=(161, 63),
        undecayed="bn",
        fields={"batch_size": 4096, "augment.mixup": 0.0},
    ),
    # mosaicml/examples, mosaicml/composer
    "mosaic_resnet50:hot": Source(
        rate=lambda s, length: (
            2.048 * s / (8 * length)
            if s < 8 * length
            else 2.048 * cosine((s / length - 8) / (270 - 8))
        ),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"optim.weight_decay": 5e-4, "optim.decay_coupling": "schedule"},
            **{"optim.momentum": 0.875, "optim.sam": 0.5, "optim.sam_every": 5},
            **{"loss.name": "sigmoid", "loss.class_reduction": "sum", "model.blur_pool": "all"},
            **{"model.head_bias": -math.log(1000), "augment.colout": 0.05, "ema_every": 20},
            **{"data.train_size": 104, "stages": progressive(270, 0.6, 0.2, 0.2)},
        },
    ),
    "mosaic_resnet50:mild": Source(
        rate=lambda s, length: (
            2.048 * s / (8 * length)
            if s < 8 * length
            else 2.048 * cosine((s / length - 8) / (36 - 8))
        ),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"optim.sam": 0.0, "augment.mixup": 0.0, "loss.label_smoothing": 0.08},
            **{"data.train_size": 88, "stages": progressive(36, 0.5, 0.4, 0.2)},
        },
    ),
    # tensorflow/tpu; the rate of tensorflow/models
    "resnet_rs:50_160": Source(
        rate=lambda s, length: (
            1.6 * cosine(5 / 350) * s / (5 * length)
            if s < 5 * length
            else 1.6 * cosine(s / length / 350)
        ),
        decayed=(234, 122),  # timm's resnetrs50 without its 112 of BatchNorm
        undecayed=r"bn\d/|(conv1|maxpool)\.[14]/|downsample\.2/",
        fields={
            **{"optim.weight_decay": 4e-5, "optim.nesterov": True, "optim.momentum": 0.9},
            **{"ema_decay": 0.9999, "model.dropout": 0.25, "model.drop_path": 0.0},
            **{"data.policy_magnitude": 10, "data.policy_ops": 2, "loss.label_smoothing": 0.1},
        },
        slow=True,
    ),
    # dmlc/gluon-cv; its log has 0.003133 behind the 49th step of 1,024 images
    "bag_of_tricks:resnet50": Source(
        rate=lambda s, length: (
            0.003133 * s / 49 if s < 5 * length else 0.4 * cosine((s / length - 5) / 115)
        ),
        decayed=(161, 54),  # no bias, gamma, beta
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": True, "augment.mixup": 0.0},
            **{"augment.brightness": 0.4, "augment.contrast": 0.4, "augment.saturation": 0.4},
            **{"augment.lighting": 0.1, "augment.hue": 0.0, "loss.label_smoothing": 0.1},
        },
    ),
    "ffcv_resnet18:88": Source(
        rate=lambda s, length: np.interp(s / length, [0, 2, 88], [0.5e-4, 0.5, 0.0]),
        decayed=(62, 28),  # 20 convolutions, three norms of shortcuts, the classifier
        undecayed="bn",
        fields={
            **{"optim.weight_decay": 5e-5, "optim.nesterov": False, "loss.label_smoothing": 0.1},
            **{"data.train_size": 160, "stages": ("71 epochs: data.train_size=192",)},
        },
        slow=True,
    ),
    # mlcommons/training_results_v0.7, NVIDIA
    "mlperf_sgd:a100_x8": Source(
        rate=mlperf(6.0, warmup=5, epochs=42),
        decayed=(161, 55),
        undecayed=_NORMS,
        fields={
            **{"optim.weight_decay": 2.5e-5, "optim.momentum": 0.9, "optim.nesterov": False},
            **{"batch_size": 3264, "data.crop_area": (0.05, 1.0), "loss.label_smoothing": 0.1},
        },
    ),
}

"""Recipes of ResNets and their relatives, as their sources have them."""

import numpy as np
from sources.source import Source, by_epoch, cosine

SOURCES = {
    # pytorch/vision references/classification
    "torchvision_v1:resnet50": Source(
        rate=by_epoch(lambda e: 0.1 * 0.1 ** (e // 30)),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": False, "optim.momentum": 0.9},
            **{"loss.label_smoothing": 0.0, "augment.mixup": 0.0, "data.resize_method": "bilinear"},
        },
    ),
    # google-research/augmix
    "augmix_resnet50:90": Source(
        rate=by_epoch(lambda e: 0.1 * (1, 0.1, 0.01)[e // 30]),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"data.views": 3, "loss.jsd": 12.0, "data.policy": "augmix", "batch_size": 256},
            **{"loss.label_smoothing": 0.0, "augment.mixup": 0.0, "optim.weight_decay": 1e-4},
        },
    ),
    "torchvision_v2:resnet50": Source(
        rate=by_epoch(lambda e: 0.5 * (0.01 + 0.99 * e / 5 if e < 5 else cosine((e - 5) / 595))),
        decayed=(161, 55),  # 53 convolutions, weight and bias of the last layer
        undecayed=r"bn\d*/|downsample\.1/",
        fields={
            **{"augment.mixup": 0.2, "augment.cutmix": 1.0, "augment.erase": 0.1},
            **{"optim.weight_decay": 2e-5, "loss.label_smoothing": 0.1, "data.repeats": 4},
            **{"data.train_size": 176, "data.eval_resize": 232, "data.image_size": 224},
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
        },
    ),
    # mlcommons/training_results_v0.7
    "mlperf_lars:32k": Source(
        rate=lambda s, length: (
            29 * s / (18 * length)
            if s < 18 * length
            else 1e-4 + (29 - 1e-4) * (1 - (s - 18 * length) / (46 * length)) ** 2
        ),
        decayed=(161, 54),  # no BatchNorm, no bias
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.momentum": 0.929, "optim.trust": 0.001},
            **{"optim.nesterov": False, "loss.label_smoothing": 0.1},
        },
    ),
}

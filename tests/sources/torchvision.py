"""torchvision's recipes, of pytorch/vision references/classification: README and train.py.

Numbers of parameters are those of torchvision's models.
"""

from sources.source import Course, Source, by_epoch, cosine


def cosine_after(peak: float, first: float, warmup: int, epochs: int, low: float = 0.0) -> Course:
    """SequentialLR of LinearLR from the share `first` and CosineAnnealingLR, by epochs."""
    return by_epoch(
        lambda e: (
            peak * (first + (1 - first) * e / warmup)
            if e < warmup
            else low + (peak - low) * cosine((e - warmup) / (epochs - warmup))
        )
    )


_V2 = cosine_after(0.5, 0.01, 5, 600)

SOURCES = {
    "torchvision_v1:resnet50": Source(
        rate=by_epoch(lambda e: 0.1 * 0.1 ** (e // 30)),
        decayed=(161, 161),
        undecayed="",
        fields={
            **{"optim.weight_decay": 1e-4, "optim.nesterov": False, "optim.momentum": 0.9},
            **{"loss.label_smoothing": 0.0, "augment.mixup": 0.0, "data.resize_method": "bilinear"},
        },
    ),
    "torchvision_v1:mobilenet_v2": Source(
        rate=by_epoch(lambda e: 0.045 * 0.98**e),
        decayed=(158, 158),
        undecayed="",
        fields={"optim.weight_decay": 4e-5, "duration": "300 epochs", "batch_size": 256},
        slow=True,
    ),
    "torchvision_v1:squeezenet1_1": Source(
        rate=by_epoch(lambda e: 0.01 * 0.1 ** (e // 30)),
        decayed=(52, 52),
        undecayed="",
        fields={"optim.weight_decay": 2e-4, "duration": "100 epochs", "batch_size": 128},
        slow=True,
    ),
    "torchvision_regnet:regnet_y_400mf": Source(
        rate=cosine_after(0.4, 0.1, 5, 100),
        decayed=(225, 225),
        undecayed="",
        fields={
            **{"optim.weight_decay": 5e-5, "optim.nesterov": False, "batch_size": 1024},
            **{"loss.label_smoothing": 0.0, "data.policy": ""},
        },
        slow=True,
    ),
    "torchvision_mobilenet_v3:small": Source(
        rate=by_epoch(lambda e: 0.064 * 0.973 ** (e // 2)),
        decayed=(142, 142),
        undecayed="",
        fields={
            **{"optim.name": "rmsprop", "optim.b2": 0.9, "optim.momentum": 0.9},
            **{"optim.weight_decay": 1e-5, "data.policy": "autoaugment", "augment.erase": 0.2},
        },
        slow=True,
    ),
    "torchvision_v2:resnet50": Source(
        rate=_V2,
        decayed=(161, 55),  # 53 convolutions, weight and bias of the last layer
        undecayed=r"bn\d*/|downsample\.1/",
        fields={
            **{"augment.mixup": 0.2, "augment.cutmix": 1.0, "augment.erase": 0.1},
            **{"optim.weight_decay": 2e-5, "loss.label_smoothing": 0.1, "data.repeats": 4},
            **{"data.train_size": 176, "data.eval_resize": 232, "data.image_size": 224},
            # alpha = (1 - 0.99998) * 8 * 128 * 32 / 600, copies while epoch < 5
            **{"ema_decay": 1 - 0.001092266666666667, "ema_every": 32},
            **{"ema_ramp": "none", "ema_start": "5 epochs"},
        },
    ),
    # Issue 3995, "New recipe" without FixRes mitigations
    "torchvision_v2:regnet_y_400mf": Source(
        rate=_V2,
        decayed=(225, 119),  # of squeeze-and-excite kernels and biases
        undecayed=r"(stem|proj|f\.[abc])\.1/",
        fields={"data.train_size": 0, "data.repeats": 1, "data.eval_resize": 232},
        slow=True,
    ),
    "torchvision_v2:convnext_tiny": Source(
        rate=cosine_after(1e-3, 0.01, 5, 600),
        decayed=(182, 136),
        undecayed=r"norm/|stem\.1/|downsample\.0/",
        fields={
            **{"optim.name": "adamw", "optim.weight_decay": 0.05, "data.repeats": 4},
            **{"data.train_size": 176, "data.eval_resize": 236, "augment.mixup": 0.2},
        },
        slow=True,
    ),
    "torchvision_vit:b32": Source(
        rate=cosine_after(3e-3, 0.033, 30, 300),
        decayed=(152, 152),
        undecayed="",
        fields={
            **{"optim.weight_decay": 0.3, "optim.clip_norm": 1.0, "loss.label_smoothing": 0.11},
            **{"augment.mixup": 0.2, "augment.cutmix": 1.0, "data.repeats": 3},
            **{"data.policy": "autoaugment", "augment.erase": 0.0},
        },
        slow=True,
    ),
    "torchvision_swin:t": Source(
        rate=cosine_after(1e-3, 0.01, 20, 300, low=1e-5),
        decayed=(173, 53),  # no norms, biases, tables of relative positions
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 0.05, "optim.clip_norm": 5.0, "augment.erase": 0.25},
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "data.repeats": 4},
            **{"data.resize_method": "bicubic", "data.eval_resize": 232},
        },
        slow=True,
    ),
}

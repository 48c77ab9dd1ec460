"""Recipes of older and small networks and of AlgoPerf, as their sources have them."""

from sources.source import Source, by_epoch, cosine

# liuzhuang13/DenseNet: fb.resnet.torch's train.lua, opts.lua, datasets
DENSENET = Source(
    slow=True,
    rate=by_epoch(lambda e: 0.1 * 0.1 ** (e // 30)),
    decayed=(364, 364),
    undecayed="",
    fields={
        **{"batch_size": 256, "duration": "90 epochs", "optim.weight_decay": 1e-4},
        **{"optim.momentum": 0.9, "optim.nesterov": True, "loss.label_smoothing": 0.0},
        **{"augment.brightness": 0.4, "augment.contrast": 0.4, "augment.saturation": 0.4},
        **{"augment.hue": 0.0, "augment.lighting": 0.1, "augment.jitter": "torchvision"},
        **{"data.resize_method": "bicubic", "model.bn_group_size": 64},
        "model.head_std": (3 * 1024) ** -0.5,  # of torch's uniform one
    },
)
# mlcommons/algorithmic-efficiency, target_setting_algorithms/jax_momentum.py; the hint of v0.5
_HINT = 186_666
_TARGET = int(0.75 * _HINT)
_FALL = int((_TARGET - 6999) * 0.9007765761611038)


def warmed(peak, warmup, after):
    """Of optax.linear_schedule from 0, then after(step)."""
    return lambda s, _: peak * s / warmup if s < warmup else after(s - warmup)


def warmed_cosine(peak, warmup, total):
    return warmed(peak, warmup, lambda s: peak * cosine(s / (total - warmup)))


def timm_stairs(peak, factor):
    """StepLRScheduler with 5 epochs of warmup from 1e-6."""
    return by_epoch(
        lambda e: 1e-6 + e * (peak - 1e-6) / 5 if e < 5 else peak * factor ** (10 * e // 24)
    )


TIMM = {
    **{"data.policy": "randaugment_timm", "data.policy_ops": 2, "data.policy_prob": 0.5},
    **{"augment.erase_mode": "pixel", "loss.label_smoothing": 0.1, "data.eval_resize": 256},
    **{"data.resize_method": "random", "data.eval_resize_method": "bicubic"},
}
TIMM_RMSPROP = TIMM | {
    **{"optim.name": "rmsprop", "optim.b2": 0.9, "optim.eps": 1e-3, "optim.momentum": 0.9},
    **{"optim.weight_decay": 1e-5, "ema_decay": 0.9999, "data.policy_magnitude": 9},
    **{"data.policy_increasing": False, "augment.erase": 0.2, "augment.erase_count": 1},
    **{"model.dropout": 0.2, "model.bn_momentum": 0.9},
}
TF_RMSPROP = {
    **{"optim.name": "rmsprop", "optim.b2": 0.9, "optim.eps": 1.0, "optim.momentum": 0.9},
    **{"optim.weight_decay": 4e-5, "loss.label_smoothing": 0.1, "augment.jitter": "tensorflow"},
    **{"augment.brightness": 32 / 255, "augment.saturation": 0.5, "augment.hue": 0.0},
    **{"augment.contrast": 0.0, "data.crop_area": (0.05, 1.0), "augment.mean": (0.5, 0.5, 0.5)},
    **{"data.eval_crop_fraction": 0.875, "model.bn_epsilon": 1e-3},
}
CAFFE = {
    **{"optim.nesterov": False, "optim.momentum": 0.9, "loss.label_smoothing": 0.0},
    **{"augment.std": (1 / 255,) * 3, "augment.mean": (123 / 255, 117 / 255, 104 / 255)},
    **{"data.train_crop": "resize_random_crop", "data.train_resize": 256},
}
ALGOPERF = {
    **{"batch_size": 1024, "data.resize_method": "bicubic", "data.crop_area": (0.08, 1.0)},
    **{"data.eval_crop": "center_crop", "data.eval_crop_fraction": 224 / 256},
}
# Their workload's images, for submissions in PyTorch.
IN_TORCH = {
    **{"data.resize_method": "bilinear", "data.resize_antialias": True, "data.eval_resize": 256},
    "data.eval_crop": "resize_center_crop",
}
VIT = ALGOPERF | {
    **{"data.policy": "randaugment_tf", "data.policy_ops": 2, "data.policy_magnitude": 10},
    **{"augment.mixup": 0.2, "augment.mix_per": "batch", "model.pos_embed": "sincos2d"},
}

SOURCES = {
    "densenet:121": DENSENET,
    # tensorflow/tpu models/experimental/inception, with the flags' defaults
    "inception_v3:tpu": Source(
        slow=True,
        rate=lambda s, _: max(0.66 * 0.94 ** (s // (3 * (1_281_167 // 1024))), 0.66e-4),
        decayed=(292, 98),  # convolutions and the last layers
        undecayed="bias|scale",
        fields=TF_RMSPROP
        | {
            **{"loss.auxiliary": 0.4, "ema_decay": 0.995, "model.bn_momentum": 0.996},
            **{"model.dropout": 0.2, "data.image_size": 299, "optim.rules": ("/scale$ frozen",)},
        },
    ),
    # BVLC/caffe solver.prototxt, train_val.prototxt: lr_mult 2 and decay_mult 0 of biases
    "alexnet:caffe": Source(
        rate=lambda s, _: 0.01 * 0.1 ** (s // 100_000),
        decayed=(16, 8),
        undecayed="bias",
        fields=CAFFE
        | {
            **{"batch_size": 256, "duration": "450000 steps", "optim.weight_decay": 5e-4},
            **{"data.image_size": 227, "optim.rules": ("@biases rate=2 decay=0",)},
        },
    ),
    "googlenet:caffe": Source(
        slow=True,
        rate=lambda s, _: 0.01 * (1 - s / 2_400_000) ** 0.5,
        decayed=(187, 64),
        undecayed="bias|scale",
        fields=CAFFE
        | {
            **{"batch_size": 32, "optim.weight_decay": 2e-4, "loss.auxiliary": 0.3},
            **{"model.dropout": 0.4, "data.image_size": 224, "model.conv_init": "xavier"},
            "model.head_std": (1 / 1024) ** 0.5,
        },
    ),
    # forresti/SqueezeNet solver.prototxt: no multipliers, so all decay; no mirror
    "squeezenet:1.0": Source(
        rate=lambda s, _: 0.08 * (1 - s / 85_000) ** 0.5,
        decayed=(52, 52),
        undecayed="",
        fields=CAFFE
        | {
            **{"batch_size": 32 * 32, "optim.weight_decay": 2e-4, "augment.flip": False},
            **{"data.image_size": 227, "model.conv_init": "xavier"},
        },
    ),
    # open-mmlab/mmpretrain configs/vgg, _base_/schedules/imagenet_bs256.py
    **{
        f"vgg:{name}": Source(
            rate=by_epoch(lambda e, peak=peak: peak * 0.1 ** min(e // 30, 3)),
            decayed=(count, count),
            undecayed="",
            fields={
                **{"batch_size": 256, "duration": "100 epochs", "optim.weight_decay": 1e-4},
                **{"optim.nesterov": False, "optim.momentum": 0.9, "data.eval_resize": 256},
            },
        )
        for name, peak, count in (("16", 0.01, 32), ("16_bn", 0.1, 58))
    },
    # tensorflow/models slim: decay_steps = int(N / 96 * 2.5 / 8)
    "mobilenet_v2:slim": Source(
        rate=lambda s, _: 0.36 * 0.98 ** (s // int(1_281_167 / 96 * 2.5 / 8)),
        decayed=(158, 36),  # no depthwise convolution
        undecayed=r"bias|scale|^features\.1/conv\.0\.0/|/conv\.1\.0/",
        fields=TF_RMSPROP
        | {
            **{"batch_size": 8 * 96, "duration": "700000 steps", "ema_decay": 0.9999},
            **{"model.bn_momentum": 0.997, "data.crop_ratio": (0.75, 1.33)},
            "model.head_std": 0.09,
        },
    ),
    # huggingface/pytorch-image-models, training_script.mdx
    "mobilenet_v3:timm": Source(
        slow=True,
        rate=timm_stairs(0.064, 0.973),
        decayed=(174, 64),
        undecayed="bias|scale",
        fields=TIMM_RMSPROP
        | {"batch_size": 1024, "duration": "600 epochs", "model.drop_path": 0.2 * 15 / 16}
        | {"model.head_std": (1 / 1000 / 3) ** 0.5},  # uniform up to 1000**-0.5
    ),
    "timm_efficientnet_b0:timm": Source(
        slow=True,
        rate=timm_stairs(0.048, 0.97),
        decayed=(213, 82),
        undecayed="bias|scale",
        fields=TIMM_RMSPROP
        | {"batch_size": 768, "duration": "450 epochs", "model.drop_path": 0.2}
        | {"model.bn_momentum": 0.0},
    ),
    "timm_resnext50:timm": Source(
        slow=True,
        rate=by_epoch(lambda e: 1e-5 + e * (0.6 - 1e-5) / 5 if e < 5 else 0.6 * cosine(e / 240)),
        decayed=(161, 54),
        undecayed="bias|scale",
        fields=TIMM
        | {
            **{"batch_size": 8 * 192, "optim.weight_decay": 1e-4, "optim.nesterov": True},
            **{"data.policy_magnitude": 7, "data.policy_increasing": True},
            **{"augment.erase": 0.4, "augment.erase_count": 3},
            "model.head_std": (1 / 2048 / 3) ** 0.5,
        },
    ),
    # facebookresearch/pycls core/optimizer.py
    **{
        f"regnet_pycls:{name}": Source(
            rate=by_epoch(lambda e, peak=peak: peak * cosine(e / 100) * min(1, 0.1 + 0.9 * e / 5)),
            decayed=(count, count),
            undecayed="",
            fields={
                **{"batch_size": size, "optim.weight_decay": 5e-5, "optim.nesterov": True},
                **{"augment.lighting": 0.1, "loss.label_smoothing": 0.0},
            },
            tolerance=6e-3,  # of the warmup, see the recipe's Deviation
        )
        for name, size, peak, count in (
            ("x_400mf", 1024, 0.8, 215),
            ("y_16gf", 256, 0.2, 251),
            ("y_32gf", 256, 0.2, 277),
        )
    },
    # target_setting_algorithms/imagenet_resnet
    "algoperf_resnet50:target": Source(
        rate=warmed(
            4.131896390902391,
            6999,
            lambda s: 4.131896390902391 * (1 - 0.999 * min(s / _FALL, 1)),
        ),
        decayed=(161, 161),
        undecayed="",
        fields=ALGOPERF
        | {
            **{"duration": f"{_TARGET} steps", "optim.momentum": 0.9274758113254791},
            **{"optim.nesterov": False, "optim.weight_decay": 5.6687777311501786e-6},
            **{"loss.label_smoothing": 0.2, "model.head_std": 0.01, "model.conv_init": "lecun"},
        },
    ),
    # submissions_algorithms v0.5, external_tuning/generalized_adam: trials 1 and 5
    "algoperf_resnet50:generalized_adam": Source(
        rate=warmed_cosine(1.9487942250159782, int(0.1 * _HINT), _HINT),
        decayed=(161, 161),
        undecayed="",
        fields=ALGOPERF
        | {
            **{"optim.momentum": 0.9721703824185486, "optim.nesterov": True},
            **{"optim.weight_decay": 0.00024022723093685417, "optim.decay_coupling": "rate"},
            **{"optim.name": "sgd", "loss.label_smoothing": 0.2, "duration": "186666 steps"},
        },
    ),
    # v0.6, self_tuning/schedule_free_adamw_v2
    **{
        f"{name}:schedule_free": Source(
            rate=lambda s, _, warmup=int(0.02 * hint * 0.75): 0.0025 * min((s + 1) / warmup, 1),
            decayed=(count, count),
            undecayed="",
            fields=fields
            | {
                **{"optim.b2": 0.9955159689799007, "optim.weight_decay": 0.08121616522670176},
                **{"optim.b1": 0.9, "loss.label_smoothing": 0.2},
            },
        )
        for name, hint, count, fields in (
            ("algoperf_resnet50", 195_999, 161, ALGOPERF | IN_TORCH),
            ("algoperf_vit_s16", 167_999, 152, VIT | IN_TORCH),
        )
    },
    # NAdamW: target_setting_algorithms/imagenet_vit; baselines' trial 2; trial 5 of the above
    **{
        f"algoperf_vit_s16:{name}": Source(
            rate=warmed_cosine(peak, warmup, total),
            decayed=(152, 152),
            undecayed="",
            fields=VIT
            | {
                **{"optim.name": "nadamw", "optim.b1": b1, "optim.b2": b2},
                **{"optim.weight_decay": decay, "loss.label_smoothing": smoothing},
                "duration": f"{total} steps",
            },
        )
        for name, peak, b1, b2, decay, smoothing, warmup, total in (
            (
                *("target", 0.0008445074561975979, 0.8895758153482813, 0.9978504782314613),
                *(0.08135402759553023, 0.0, 6999, _TARGET),
            ),
            (
                *("nadamw", 0.0008445074561975979, 1 - 0.11042418465, 0.9978504782314613),
                *(0.08135402759553023, 0.2, int(0.05 * _HINT), _HINT),
            ),
            (
                *("generalized_adam", 0.001768509931943289, 0.9414979138541995),
                *(0.9768053375036079, 0.0279513959224539, 0.2, int(0.02 * _HINT), _HINT),
            ),
        )
    },
}

"""Recipes of transformers and their relatives, as their sources have them."""

import math

from sources.source import Course, N, Source, by_epoch, cosine


def warmed(peak: float, warmup: float, total: float, start=0.0, end=0.0) -> Course:
    """A linear rise over so many epochs, then half a cosine over the rest."""

    def rate(step: int, length: float) -> float:
        epoch = step / length
        if epoch < warmup:
            return start + (peak - start) * epoch / warmup
        return end + (peak - end) * cosine((epoch - warmup) / (total - warmup))

    return rate


def by_timm(peak: float, total: int, warmup: int = 5) -> Course:
    """From epoch to epoch; the rise takes the place of the cosine's beginning."""
    return by_epoch(
        lambda e: (
            1e-6 + (peak - 1e-6) * e / warmup
            if e < warmup
            else 1e-5 + (peak - 1e-5) * cosine(e / total)
        )
    )


def of_big_vision(peak: float, warmup: int, epochs: int, fall=cosine) -> Course:
    """By steps; `fall` is from 1 at share 0 of what the warmup leaves."""

    def rate(step: int, length: float) -> float:
        if step < warmup:
            return peak * step / warmup
        return peak * fall((step - warmup) / (epochs * length - warmup))

    return rate


def of_swin(peak: float, warmup: int, total: int, start: float, end: float) -> Course:
    """timm's CosineLRScheduler by steps with its default, no warmup_prefix."""
    behind = warmed(peak, 0, total, end=end)  # which counts from the first step

    def rate(step: int, length: float) -> float:
        epoch = step / length
        if epoch < warmup:
            return start + (peak - start) * epoch / warmup
        return behind(step, length)

    return rate


def in_stairs(peak: float) -> Course:
    """TensorFlow's exponential decay, counted from the first step."""

    def rate(step: int, length: float) -> float:
        if step < int(5 * length):
            return peak * step / int(5 * length)
        return peak * 0.97 ** math.floor(step / (2.4 * length))

    return rate


SOURCES = {
    # facebookresearch/deit
    "deit:s": Source(
        rate=by_timm(1e-3, 300),
        # 12 x (qkv, proj, fc1, fc2), patches, head; no positions, token, norms, biases
        decayed=(152, 50),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "data.repeats": 3},
            **{"data.policy_magnitude": 9, "data.policy_magnitude_std": 0.5},
            **{"optim.weight_decay": 0.05, "augment.erase": 0.25, "model.drop_path": 0.1},
        },
    ),
    "deit:b_384": Source(
        slow=True,
        rate=by_epoch(lambda e: 1e-6 + 4e-6 * min(e / 5, 1)),  # min-lr is the rate
        decayed=(152, 50),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"optim.weight_decay": 1e-8, "batch_size": 512, "duration": "30 epochs"},
            **{"data.image_size": 384, "data.repeats": 3, "loss.label_smoothing": 0.1},
        },
    ),
    "deit3:s": Source(
        rate=by_timm(4e-3, 800),
        decayed=(176, 50),
        undecayed="bias|scale|pos_embed|cls_token|gamma",
        fields={
            **{"optim.name": "lamb", "optim.weight_decay": 0.05, "optim.clip_norm": 1.0},
            **{"augment.three_augment": True, "augment.brightness": 0.3, "augment.hue": 0.0},
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.erase": 0.0},
            **{"data.policy": "", "data.repeats": 3, "data.eval_resize": 224},
            **{"loss.name": "sigmoid", "loss.label_smoothing": 0.0, "model.layer_scale": 1e-4},
            **{"model.uniform_drop_path": 0.05, "model.drop_path": -1.0, "batch_size": 2048},
        },
    ),
    "deit3:s_384": Source(
        slow=True,
        rate=by_epoch(lambda e: 1e-6 + 9e-6 * min(e / 5, 1)),
        decayed=(176, 50),
        undecayed="bias|scale|pos_embed|cls_token|gamma",
        fields={
            **{"optim.name": "adamw", "optim.weight_decay": 0.1, "optim.clip_norm": 0.0},
            **{"augment.mixup": 0.8, "augment.three_augment": False, "augment.erase": 0.0},
            **{"data.policy_magnitude": 9, "data.repeats": 1, "data.eval_resize": 384},
            **{"loss.name": "softmax", "loss.label_smoothing": 0.1, "batch_size": 512},
            **{"model.uniform_drop_path": 0.0, "finetune.weights": "WORKDIR_OF_deit3_s"},
        },
    ),
    # google-research/big_vision
    "big_vision_vit_s16:300": Source(
        rate=of_big_vision(1e-3, 10_000, 300),
        # 12 x (qkv, proj, fc1, fc2), patches, pre_logits, head
        decayed=(152, 51),
        undecayed="bias|scale",
        fields={
            **{"data.policy_magnitude": 10, "augment.mixup": 0.2, "batch_size": 1024},
            **{"optim.weight_decay": 0.1, "optim.clip_norm": 1.0, "model.pool": "norm_avg"},
        },
        num_examples=round(0.99 * N),
    ),
    "augreg:s16": Source(
        rate=of_big_vision(1e-3, 10_000, 300),
        decayed=(154, 51),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"data.policy_magnitude": 15, "augment.mixup": 0.5, "batch_size": 4096},
            **{"optim.weight_decay": 1e-4, "optim.decay_coupling": "schedule"},
            **{"loss.name": "sigmoid", "loss.class_reduction": "sum", "model.head_bias": -6.9},
            **{"loss.label_smoothing": 0.0, "model.representation_size": 384},
            **{"model.drop_path": -1.0, "model.dropout": -1.0, "data.crop_area": (0.05, 1.0)},
            **{"data.train_split": "train[:99%]", "data.eval_resize_method": "area"},
        },
        num_examples=round(0.99 * N),
    ),
    "big_vision_mixer:60": Source(
        rate=of_big_vision(1e-3, 10_000, 60, lambda share: 1e-5 + (1 - 1e-5) * (1 - share)),
        # 12 x 2 x (fc1, fc2), patches, head
        decayed=(150, 50),
        undecayed="bias|scale",
        fields={
            **{"data.policy_magnitude": 15, "augment.mixup": 0.5, "model.drop_path": 0.1},
            **{"optim.weight_decay": 1e-4, "optim.momentum_dtype": "float32"},
            **{"loss.name": "sigmoid", "loss.class_reduction": "sum", "model.head_bias": -6.9},
        },
        num_examples=round(0.99 * N),
    ),
    "big_vision_bit:r50x1": Source(
        rate=of_big_vision(0.1 / 256 * 4096, 1000, 90),
        decayed=(153, 54),
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 1e-4 / 256 * 4096, "optim.decay_coupling": "schedule"},
            **{"optim.nesterov": False, "optim.momentum_dtype": "bfloat16", "augment.mixup": 0.0},
            **{"loss.name": "softmax", "loss.label_smoothing": 0.0, "data.policy": ""},
        },
        num_examples=round(0.99 * N),
    ),
    # google-research/big_transfer
    "bit_hyperrule:imagenet": Source(
        slow=True,
        rate=lambda s, length: (
            0.003 * s / 500
            if s < 500
            else 0.003 / 10 ** sum(s >= fall for fall in (6000, 12_000, 18_000))
        ),
        decayed=(153, 54),  # by a decay of 0
        undecayed="bias|scale",
        fields={
            **{"optim.weight_decay": 0.0, "optim.nesterov": False, "augment.mixup": 0.1},
            **{"data.train_resize": 512, "data.image_size": 480, "data.eval_crop": "resize"},
            **{"batch_size": 512, "duration": "20000 steps", "loss.label_smoothing": 0.0},
        },
        num_examples=round(0.99 * N),
    ),
    # facebookresearch/ConvNeXt, ConvNeXt-V2
    "convnext:t": Source(
        slow=True,
        rate=warmed(4e-3, 20, 300, end=1e-6),
        # 18 x (conv_dw, fc1, fc2), stem, 3 x downsampling, head
        decayed=(182, 59),
        undecayed="bias|scale|gamma",
        fields={
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.erase": 0.25},
            **{"optim.weight_decay": 0.05, "ema_decay": 0.9999, "model.drop_path": 0.1},
            **{"data.policy_magnitude": 9, "data.repeats": 1, "optim.clip_norm": 0.0},
        },
    ),
    "convnext_v2:t": Source(
        slow=True,
        rate=warmed(8e-4 * 1024 / 256, 40, 300, end=1e-6),
        decayed=(200, 59),
        undecayed="bias|scale",
        fields={
            **{"finetune.layer_decay": 0.9, "finetune.layer_groups": 0, "model.head_std": 2e-5},
            **{"optim.weight_decay": 0.05, "ema_decay": 0.9999, "model.drop_path": 0.2},
            **{"optim.rules": ("^stem rate=1.1111111111111112",), "augment.mixup": 0.8},
        },
    ),
    # microsoft/Swin-Transformer
    "swin:t": Source(
        slow=True,
        rate=of_swin(1e-3, 20, 300, start=5e-7 * 2, end=5e-6 * 2),
        # 12 x (qkv, proj, two of the MLP), patches, 3 x merging, head
        decayed=(173, 53),
        undecayed="bias|scale|relative_position_bias_table",
        fields={
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.erase": 0.25},
            **{"optim.weight_decay": 0.05, "optim.clip_norm": 5.0, "model.drop_path": 0.2},
            **{"data.policy_magnitude": 9, "loss.label_smoothing": 0.1, "data.repeats": 1},
        },
    ),
    # tensorflow/tpu, google/automl
    **{
        f"efficientnet:{name}": Source(
            slow=True,
            rate=in_stairs(0.016 * 2048 / 256),
            # 49 and 69 norms have a scale and a bias
            decayed=(count, count - 2 * norms),
            undecayed=r"/block\.\d\.1/|features\.[08]\.1/",
            fields={
                **{"optim.name": "rmsprop", "optim.b2": 0.9, "optim.eps": 1e-3},
                **{"optim.weight_decay": 1e-5, "ema_decay": 0.9999, "loss.label_smoothing": 0.1},
                **{"data.policy": "autoaugment_tf", "data.resize_method": "bicubic"},
                **{"model.bn_momentum": 0.99, "model.bn_epsilon": 1e-3, "augment.mixup": 0.0},
                **{"data.train_split": "train[25022:]", "duration": "218949 steps"},
                "data.eval_crop_fraction": size / (size + 32),  # CROP_PADDING
            },
            num_examples=N - 25_022,
        )
        for name, size, count, norms in (("b0", 224, 213, 49), ("b1", 240, 301, 69))
    },
    "efficientnet_v2:m": Source(
        slow=True,
        rate=in_stairs(0.016 * 4096 / 256),
        # 13 fused blocks of 1 or 2 convolutions, 44 others of 3 and 2 of squeeze-and-excite, the
        # first and the last convolution, head
        decayed=(649, 3 + 2 * 10 + 44 * (3 + 2) + 2 + 1),
        undecayed="bias|scale",
        fields={
            **{"data.train_size": 192, "data.policy_magnitude": 5, "data.image_size": 480},
            **{"augment.mixup": 0.0, "augment.mix_per": "image", "augment.switch_halves": True},
            **{"augment.mixup_fold": True, "optim.weight_decay": 1e-5, "ema_decay": 0.9999},
            **{"data.train_split": "train[25023:]", "data.crop_area": (0.05, 1.0)},
            "stages": (
                "87 epochs: data.train_size=256 data.policy_magnitude=8.333 "
                "augment.mixup=0.06667 augment.cutmix=0.06667",
                "175 epochs: data.train_size=320 data.policy_magnitude=11.67 "
                "augment.mixup=0.1333 augment.cutmix=0.1333",
                "262 epochs: data.train_size=384 data.policy_magnitude=15 "
                "augment.mixup=0.2 augment.cutmix=0.2",
            ),
        },
        num_examples=N - 25_023,
    ),
    # google-deepmind/deepmind-research; two photos make an image
    "nfnet:f0": Source(
        slow=True,
        rate=warmed(0.1 * 4096 / 256, 2 * 5, 2 * 360),
        # 57 convolutions, 2 x 12 of squeeze-and-excite, head
        decayed=(233, 82),
        undecayed="bias|gain",
        fields={
            **{"optim.agc": 0.01, "optim.nesterov": True, "optim.weight_decay": 2e-5},
            **{"data.policy_ops": 4, "data.policy_magnitude": 5, "augment.mixup": 0.2},
            **{"augment.mix_per": "half", "augment.switch_halves": True, "augment.cutmix": 1.0},
            **{"data.train_size": 192, "data.image_size": 256, "ema_decay": 0.99999},
        },
    ),
    # Theirs decays the distillation token, too.
    "deit:s_distilled": Source(
        rate=by_timm(1e-3, 300),
        decayed=(155, 52),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"distill.kind": "hard", "distill.share": 0.5, "data.repeats": 3},
            **{"model.name": "deit_s16_distilled", "loss.label_smoothing": 0.1},
        },
    ),
    # facebookresearch/mae: the loops set the rate at each step
    "mae_vit_b16:pretrain": Source(
        slow=True,
        rate=warmed(2.4e-3, 40, 800),
        # 12 + 8 x (qkv, proj, fc1, fc2), patches, decoder_embed, mask_token, decoder_pred
        decayed=(251, 84),
        undecayed="bias|scale",
        fields={
            **{"mae.mask_ratio": 0.75, "mae.norm_pixels": True, "data.crop_area": (0.2, 1.0)},
            **{"optim.b2": 0.95, "optim.weight_decay": 0.05, "batch_size": 4096},
            **{"data.policy": "", "augment.flip": True, "augment.brightness": 0.0},
        },
    ),
    "mae_vit_b16:finetune": Source(
        slow=True,
        rate=warmed(2e-3, 5, 100, end=1e-6),
        # 12 x (qkv, proj, fc1, fc2), patches, head
        decayed=(151, 50),
        undecayed="bias|scale|pos_embed",
        fields={
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.erase": 0.25},
            **{"data.policy_magnitude": 9, "data.policy_magnitude_std": 0.5, "data.repeats": 1},
            **{"optim.weight_decay": 0.05, "optim.b2": 0.999, "finetune.layer_decay": 0.65},
            **{"model.drop_path": 0.1, "model.head_std": 2e-5, "loss.label_smoothing": 0.1},
            **{"data.crop_area": (0.08, 1.0), "batch_size": 1024, "model.pool": "avg"},
        },
    ),
}

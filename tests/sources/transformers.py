"""Recipes of transformers and their relatives, as their sources have them."""

from sources.source import Source, by_epoch, cosine


def deit(epoch):
    """facebookresearch/deit"""
    if epoch < 5:
        return 1e-6 + (1e-3 - 1e-6) * epoch / 5
    return 1e-5 + (1e-3 - 1e-5) * cosine(epoch / 300)


SOURCES = {
    # facebookresearch/deit
    "deit:s": Source(
        rate=by_epoch(deit),
        # 12 x (qkv, proj, fc1, fc2), patches, head; no positions, token, norms, biases
        decayed=(152, 50),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"augment.mixup": 0.8, "augment.cutmix": 1.0, "data.repeats": 3},
            **{"data.policy_magnitude": 9, "data.policy_magnitude_std": 0.5},
            **{"optim.weight_decay": 0.05, "augment.erase": 0.25, "model.drop_path": 0.1},
        },
    ),
    # Theirs decays the distillation token, too.
    "deit:s_distilled": Source(
        rate=by_epoch(deit),
        decayed=(155, 52),
        undecayed="bias|scale|pos_embed|cls_token",
        fields={
            **{"distill.kind": "hard", "distill.share": 0.5, "data.repeats": 3},
            **{"model.name": "deit_s16_distilled", "loss.label_smoothing": 0.1},
        },
    ),
}

"""What does not go with maps of classes."""

import ml_collections

from imagenet_jax.config.loss_fields import BALANCED


def refused(config: ml_collections.ConfigDict) -> dict[str, bool]:
    """Fields that are set and do not go with maps of classes, by whether they are."""
    data, change = config.data, config.augment
    return {
        "augment.mixup": change.mixup > 0,
        "augment.cutmix": change.cutmix > 0,
        "augment.pad (set data.train_crop = 'scale_jitter')": change.pad > 0,
        "augment.colout": change.colout > 0,
        "data.policy": bool(data.policy),
        "data.rotate": data.rotate > 0,
        "data.translate": data.translate > 0,
        "data.views": data.views > 1,
        "loss.name = 'sigmoid'": config.loss.name == "sigmoid",
        "loss.class_weights = ('balanced',)": config.loss.class_weights == BALANCED,
        "distill.weights": bool(config.distill.weights),
        # The head is more than its last layer, and the backbone one module among others.
        f"finetune.mode = {config.finetune.mode!r}": config.finetune.mode != "full",
        "eval.tta = 'mirror_shift'": config.eval.tta == "mirror_shift",
    }

"""What does not go with masked autoencoders, and fields that are theirs alone; without JAX."""

import ml_collections

from imagenet_jax.config.mae_fields import seen_patches
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.facts import FACTS

NAME = "mae"


def check_mae(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that contradict config.task = 'mae'."""
    name, mae = config.model.name, config.mae
    if not FACTS[name].patch or name.endswith("_distilled"):
        known = [other for other in FACTS if FACTS[other].patch]
        known = ", ".join(other for other in known if not other.endswith("_distilled"))
        raise ConfigError(
            f"config.task = {NAME!r} hides patches of a plain ViT, which config.model.name = "
            f"{name!r} is not; expected {known}"
        )
    if found := [field for field, is_on in _refused(config).items() if is_on]:
        raise ConfigError(
            f"config.task = {NAME!r} does not go with config.{' and config.'.join(found)}"
        )
    for field in ("image_size", "train_size"):
        if config.data[field]:
            _check_patches(field, config)
    if mae.decoder_width % mae.decoder_heads:
        raise ConfigError(
            f"config.mae.decoder_heads = {mae.decoder_heads} do not divide "
            f"config.mae.decoder_width = {mae.decoder_width}"
        )


def patch_size(config: ml_collections.ConfigDict) -> int:
    """Height and width in pixels of the patches of config.model, a ViT."""
    return config.model.patch or FACTS[config.model.name].patch


def _check_patches(field: str, config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError unless images divide into patches of which some are seen, some hidden."""
    size, ratio = config.data[field], config.mae.mask_ratio
    patch = patch_size(config)
    if size % patch:
        nearest = max(round(size / patch), 1) * patch
        raise ConfigError(
            f"config.data.{field} = {size} does not divide into patches of {patch} pixels of "
            f"{config.model.name}; the nearest that does is {nearest}"
        )
    patches = (size // patch) ** 2
    seen = seen_patches(patches, ratio)
    if not 0 < seen < patches:
        what = "none is seen" if not seen else "none is hidden"
        raise ConfigError(
            f"config.mae.mask_ratio = {ratio}: of the {patches} patches of {patch} pixels of an "
            f"image of config.data.{field} = {size} {what}"
            + (f"; expected at most {1 - 1 / patches:.3g}" if patches > 1 and not seen else "")
            + (f"; the model.patch = {patch // 2} makes more" if patches < 4 else "")
        )


def _refused(config: ml_collections.ConfigDict) -> dict[str, bool]:
    """Fields that are set and mean nothing here, by whether they are."""
    model, loss, change = config.model, config.loss, config.augment
    return {
        f"model.head = {model.head!r}": bool(model.head),
        "model.representation_size": model.representation_size > 0,
        "augment.mixup": change.mixup > 0,
        "augment.cutmix": change.cutmix > 0,
        "augment.colout": change.colout > 0,
        "data.views": config.data.views > 1,
        "loss.name = 'sigmoid'": loss.name == "sigmoid",
        "loss.class_weights": bool(loss.class_weights),
        "distill.weights": bool(config.distill.weights),
        f"finetune.mode = {config.finetune.mode!r}": config.finetune.mode != "full",
    }

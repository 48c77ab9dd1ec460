"""What does not go with learning from views, and what each method needs; without JAX."""

import ml_collections

from imagenet_jax.errors import ConfigError

# By config.task: whether it has a predictor.
METHODS = {"simclr": False, "byol": True, "simsiam": True, "moco_v3": True, "dino": False}
WITH_NEGATIVES = ("simclr", "moco_v3")


def check_views(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for several crops of an image where nothing compares them, or for what
    contradicts a method that does."""
    task, data = config.task, config.data
    if task not in METHODS:
        if data.crops > 1 or data.local_crops:
            raise ConfigError(
                f"config.data.crops = {data.crops}, local_crops = {data.local_crops} are views for "
                f"config.task = {', '.join(METHODS)}, not for {task!r}; set them to 1 and 0"
            )
        return
    if data.crops != 2:
        raise ConfigError(
            f"config.task = {task!r} compares two views of each image, and config.data.crops = "
            f"{data.crops}; set it to 2, and data.train_crop = 'random_resized_crop'"
        )
    if data.local_crops and task != "dino":
        raise ConfigError(
            f"config.data.local_crops = {data.local_crops} are for config.task = 'dino', not for "
            f"{task!r}; set it to 0"
        )
    _check_heads(config)
    if config.accumulate > 1 and task in WITH_NEGATIVES:
        raise ConfigError(
            f"config.accumulate = {config.accumulate} does not go with config.task = {task!r}, "
            "which compares all images of a batch, and micro-batches are never seen together; set "
            "it to 1, or take 'byol' or 'dino'"
        )
    if found := [name for name, is_on in _refused(config).items() if is_on]:
        raise ConfigError(
            f"config.task = {task!r} does not go with config.{' and config.'.join(found)}"
        )


def _check_heads(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for a method without the layers that it needs, or with others."""
    needs = {"predictor": METHODS[config.task], "prototypes": config.task == "dino"}
    usual = {"predictor": 4096, "prototypes": 65536}
    for name, needed in needs.items():
        value = config.pretrain[name]
        if (value > 0) != needed:
            what, advice = ("needs", usual[name]) if needed else ("has no use for", 0)
            raise ConfigError(
                f"config.task = {config.task!r} {what} config.pretrain.{name}, which is {value}; "
                f"set it to {advice}"
            )


def _refused(config: ml_collections.ConfigDict) -> dict[str, bool]:
    """Fields that are set and mean nothing to views, by whether they are."""
    model, loss, change = config.model, config.loss, config.augment
    amounts = ("mixup", "cutmix", "pad", "erase", "colout", "lighting", "noise")
    return {
        f"model.head = {model.head!r}": bool(model.head),
        f"finetune.mode = {config.finetune.mode!r}": config.finetune.mode != "full",
        **{f"augment.{name} = {change[name]}": bool(change[name]) for name in amounts},
        "augment.three_augment": change.three_augment,
        "augment.flip_alternates": change.flip_alternates,
        "data.repeats": config.data.repeats > 1,
        "loss.name = 'sigmoid'": loss.name == "sigmoid",
        "loss.class_weights": bool(loss.class_weights),
        "distill.weights": bool(config.distill.weights),
    }

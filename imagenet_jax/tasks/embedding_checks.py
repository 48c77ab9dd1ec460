"""What does not go with embeddings, and fields that are theirs alone; without JAX."""

import ml_collections

from imagenet_jax.config.embedding_fields import OF_BATCH
from imagenet_jax.errors import ConfigError

OPEN_SET = ("embedding",)  # tasks that are evaluated on other classes than those of training


def check_per_class(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for batches that cannot have so many images of each class."""
    data, size = config.data, config.batch_size
    if data.held_out_classes and config.task not in OPEN_SET:
        raise ConfigError(
            f"config.data.held_out_classes = {tuple(data.held_out_classes)!r} is for "
            f"config.task = 'embedding': config.task = {config.task!r} cannot tell classes that it "
            "was never trained on"
        )
    if not data.per_class:
        return
    if data.sampling or data.repeats > 1:
        other = "sampling" if data.sampling else "repeats"
        raise ConfigError(
            f"config.data.per_class = {data.per_class} says which images a batch has, and so does "
            f"config.data.{other} = {data[other]!r}; set one of the two"
        )
    if size % data.per_class or size < 2 * data.per_class:
        nearest = max(size // data.per_class, 2) * data.per_class
        raise ConfigError(
            f"config.batch_size = {size} is not config.data.per_class = {data.per_class} images "
            f"each of two classes or more; the nearest that is, is {nearest}"
        )


def check_embedding(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that contradict config.task = 'embedding'."""
    loss, per_class = config.embedding.loss, config.data.per_class
    if found := [name for name, is_on in _refused(config).items() if is_on]:
        raise ConfigError(
            f"config.task = 'embedding' does not go with config.{' and config.'.join(found)}"
        )
    if config.embedding.group_column and not config.embedding.groups:
        raise ConfigError(
            f"config.embedding.group_column = {config.embedding.group_column!r} is a column of the "
            "file config.embedding.groups, which is ''; set it to a CSV file"
        )
    if loss in OF_BATCH and config.accumulate > 1:
        raise ConfigError(
            f"config.accumulate = {config.accumulate} does not go with config.embedding.loss = "
            f"{loss!r}, which compares all images of a batch, and micro-batches are never seen "
            "together; set accumulate = 1, or take 'arcface' or 'cosface'"
        )
    if loss in ("triplet", "supcon") and per_class < 2:
        raise ConfigError(
            f"config.embedding.loss = {loss!r} compares images of one class, of which a batch has "
            f"several only with config.data.per_class; it is {per_class}, set it to 4"
        )


def _refused(config: ml_collections.ConfigDict) -> dict[str, bool]:
    """Fields that are set and mean nothing here, by whether they are."""
    model, loss, change = config.model, config.loss, config.augment
    return {
        f"model.head = {model.head!r}": bool(model.head),
        "model.head_std = 0": model.head_std == 0,
        "augment.mixup": change.mixup > 0,
        "augment.cutmix": change.cutmix > 0,
        "data.views": config.data.views > 1,
        "loss.name = 'sigmoid'": loss.name == "sigmoid",
        "loss.class_weights": bool(loss.class_weights),
        "distill.weights": bool(config.distill.weights),
    }

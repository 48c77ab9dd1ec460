"""What does not go with images without labels, and with tasks that learn from them; without JAX."""

import ml_collections

from imagenet_jax.config.semi_fields import LABELLED, SEMI_SUPERVISED, labelled_fields
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.self_supervised_checks import METHODS

_CHOICES = "config.data.labelled_per_class, labelled_fraction, labelled_list or unlabelled_class"


def check_labelled(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that contradict each other about which images have labels, or
    that do not go with a task that learns from those without."""
    data, chosen = config.data, labelled_fields(config.data)
    if len(chosen) > 1:
        raise ConfigError(
            f"config.data.{chosen[0]} = {data[chosen[0]]!r} says which images have labels, and so "
            f"does config.data.{chosen[1]} = {data[chosen[1]]!r}; set one of the two"
        )
    if config.task in SEMI_SUPERVISED:
        _check_streams(config, bool(chosen))
        _check_task(config)
    elif chosen and config.task in (*METHODS, "mae"):
        raise ConfigError(
            f"config.data.{chosen[0]} = {data[chosen[0]]!r} says which images have labels, and "
            f"config.task = {config.task!r} learns from all without any; set it to "
            f"{LABELLED[f'data.{chosen[0]}'].default!r}"
        )
    elif data.labelled_share:
        raise ConfigError(
            f"config.data.labelled_share = {data.labelled_share:g} is for config.task = "
            f"{' or '.join(map(repr, SEMI_SUPERVISED))}: {config.task!r} learns nothing from "
            "images without labels; set it to 0 to train on those with labels alone"
        )


def _check_streams(config: ml_collections.ConfigDict, are_chosen: bool) -> None:
    """Raises ConfigError for batches that cannot have so many rows with labels."""
    data, size = config.data, config.batch_size
    if not are_chosen:
        raise ConfigError(
            f"config.task = {config.task!r} learns from images with labels and from others, and "
            f"nothing says which have some; set {_CHOICES}"
        )
    if not data.labelled_share:
        raise ConfigError(
            f"config.task = {config.task!r} needs config.data.labelled_share, the share of the "
            "rows of a batch that have labels; it is 0, set it to 0.125 as in FixMatch"
        )
    for name, plain in (("sampling", ""), ("per_class", 0), ("repeats", 1)):
        if data[name] != plain:
            raise ConfigError(
                f"config.data.labelled_share = {data.labelled_share:g} says which images a batch "
                f"has, and so does config.data.{name} = {data[name]!r}; set that to {plain!r}"
            )
    rows = data.labelled_share * size
    if abs(rows - round(rows)) > 1e-6 or not 0 < round(rows) < size:
        nearest = min(max(round(rows), 1), max(size - 1, 1)) / size
        raise ConfigError(
            f"config.data.labelled_share = {data.labelled_share:g} of config.batch_size = {size} "
            f"are {rows:g} rows, not a whole number of 1 to {size - 1}; the nearest share that is, "
            f"is {nearest:g}"
        )


def _check_task(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that contradict the task."""
    data, views = config.data, 2 if config.task == "fixmatch" else 1
    if found := [name for name, is_on in _refused(config).items() if is_on]:
        raise ConfigError(
            f"config.task = {config.task!r} does not go with config.{' and config.'.join(found)}"
        )
    if data.views != views:
        how = (
            "the image as it is and the image with data.policy"
            if views == 2
            else "of which the step itself makes two, each augmented by itself"
        )
        raise ConfigError(
            f"config.data.views = {data.views}, and config.task = {config.task!r} takes {views} "
            f"of each image, {how}; set it to {views}"
        )
    if views == 2 and not (data.policy or data.rotate or data.translate):
        raise ConfigError(
            "config.task = 'fixmatch' compares an image with one that is changed a lot, and "
            "config.data.policy = '' changes nothing; set it to 'randaugment'"
        )
    if views == 2 and config.semi.ramp_up:
        raise ConfigError(
            f"config.semi.ramp_up = {config.semi.ramp_up!r} is for config.task = 'mean_teacher'; "
            "set it to ''"
        )


def _refused(config: ml_collections.ConfigDict) -> dict[str, bool]:
    """Fields that are set and mean nothing here, by whether they are."""
    loss, change, mode = config.loss, config.augment, config.finetune.mode
    return {
        "augment.mixup": change.mixup > 0,
        "augment.cutmix": change.cutmix > 0,
        "augment.colout": change.colout > 0,
        "loss.name = 'sigmoid'": loss.name == "sigmoid",
        "loss.jsd": loss.jsd > 0,
        "loss.class_weights": bool(loss.class_weights),
        "distill.weights": bool(config.distill.weights),
        # Its teacher is the network in training mode, with the weights as they are.
        f"finetune.mode = {mode!r}": config.task == "mean_teacher" and mode in ("lora", "head"),
    }

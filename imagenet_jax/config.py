"""The schema of a run: every field with its type, unit, default, meaning and allowed values.

A config is an `ml_collections.ConfigDict` made by `base_config()`, changed by a file in
`configs/` and by `--config.FIELD=VALUE`, and checked by `validate` before anything starts.
"""

import dataclasses
import difflib
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from imagenet_jax.durations import is_duration
from imagenet_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `default` gives the type, `meaning` the unit, `allowed` says what is possible."""

    default: Any
    meaning: str
    allowed: str = ""
    test: Callable[[Any], bool] = lambda value: True


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Field:
    return Field(default, meaning, "one of " + ", ".join(choices), lambda v: v in choices)


def _number(default: float, meaning: str, low: float, high: float = math.inf) -> Field:
    allowed = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    return Field(default, meaning, allowed, lambda v: low <= v <= high)


def _duration(default: str, meaning: str, empty: bool = False) -> Field:
    allowed = "a number and one of steps, epochs, examples, percent, as in '5 epochs'"
    if empty:
        allowed += ", or '' for never"
    return Field(default, meaning, allowed, lambda v: (empty and v == "") or is_duration(v))


SCHEMA: dict[str, Field] = {
    "seed": _number(0, "seed of initialisation, order and augmentation", 0, 2**31 - 1),
    "batch_size": _number(256, "images per optimizer update, over all devices", 1),
    "duration": Field(
        "90 epochs",
        "length of the run; rounded to whole steps",
        "a number and one of steps, epochs, examples, as in '90 epochs'",
        lambda v: is_duration(v) and "percent" not in v and "%" not in v,
    ),
    "accumulate": _number(1, "micro-batches whose gradients are summed into one update", 1),
    "ema_decay": _number(0.0, "decay of the averaged weights that are evaluated; 0: none", 0, 1),
    "partitioner": _choice(
        "jit", ("jit", "shard_map", "pmap"), "how the step is spread over the devices"
    ),
    "model.name": Field("resnet50", "a name of the table of models"),
    "model.width": _number(0, "channels of the first stage; 0: the model's own", 0),
    "model.stem": _choice(
        "imagenet",
        ("imagenet", "cifar", "cifar_half"),
        "7x7 stride 2 with max-pool, 3x3 stride 1, or 4x4 stride 2",
    ),
    "model.dtype": _choice("bfloat16", ("float32", "bfloat16"), "dtype of the computation"),
    "model.zero_init_residual": Field(True, "residual branches start at zero"),
    "model.bn_group_size": _number(
        32, "images that share batch statistics; 0: the whole (micro-)batch", 0
    ),
    "model.bn_momentum": _number(0.9, "share of the old running statistics kept", 0, 1),
    "model.bn_epsilon": _number(1e-5, "added to the variance", 0),
    "data.name": Field(
        "imagenet2012", "imagenet2012, cifar10, digits, fake, folder:PATH or zip:PATH"
    ),
    "data.dir": Field("", "TFDS data directory; '': $TFDS_DATA_DIR or ~/tensorflow_datasets"),
    "data.train_split": Field("train", "split (TFDS) or sub-folder trained on"),
    "data.eval_split": Field("validation", "split (TFDS) or sub-folder evaluated on"),
    "data.image_size": _number(224, "height and width in pixels that the model sees", 1),
    "data.train_crop": _choice(
        "random_resized_crop",
        ("random_resized_crop", "center_crop", "none"),
        "training images: host-side crop and resize; none: stored at image_size already",
    ),
    "data.crop_area": Field(
        (0.08, 1.0),
        "random_resized_crop: range of the share of the image's area",
        "two numbers, 0 < low <= high <= 1",
        lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
    ),
    "data.crop_ratio": Field(
        (3 / 4, 4 / 3),
        "random_resized_crop: range of width / height",
        "two numbers, 0 < low <= high",
        lambda v: len(v) == 2 and 0 < v[0] <= v[1],
    ),
    "data.eval_crop": _choice(
        "center_crop", ("center_crop", "none"), "evaluation images: host-side crop and resize"
    ),
    "data.eval_crop_fraction": Field(
        0.875,
        "center_crop: side of the crop over the image's short side",
        "above 0, at most 1",
        lambda v: 0 < v <= 1,
    ),
    "data.resize_method": _choice(
        "bilinear", ("bilinear", "bicubic", "area"), "interpolation of the resize, by tf.image"
    ),
    "data.resize_antialias": Field(False, "filter before shrinking, as Pillow does"),
    "data.cache": Field(False, "decode the whole data set once and keep it in memory"),
    "data.bad_images": _choice(
        "fail", ("fail", "skip"), "an image that cannot be decoded: stop, or leave out by name"
    ),
    "data.prefetch": _number(4, "batches made ahead by the host", 1),
    "data.fake_train_examples": _number(1281167, "fake: size of the training split", 1),
    "data.fake_eval_examples": _number(50000, "fake: size of the evaluation split", 1),
    "data.fake_classes": _number(1000, "fake: number of classes", 2),
    "augment.flip": Field(True, "mirror half of the training images"),
    "augment.pad": _number(0, "random translation by up to this many pixels", 0),
    "augment.pad_mode": _choice("constant", ("constant", "reflect"), "what is shifted in"),
    "augment.mean": Field(
        (0.485, 0.456, 0.406),
        "subtracted from RGB in [0, 1]",
        "three numbers",
        lambda v: len(v) == 3,
    ),
    "augment.std": Field(
        (0.229, 0.224, 0.225),
        "RGB in [0, 1] is divided by it",
        "three numbers above 0",
        lambda v: len(v) == 3 and min(v) > 0,
    ),
    "loss.label_smoothing": _number(0.1, "share of the target spread over all classes", 0, 1),
    "optim.name": _choice("sgd", ("sgd", "adamw"), "the optimizer"),
    "optim.learning_rate": _number(0.1, "peak learning rate for this batch_size", 0),
    "optim.momentum": _number(0.9, "sgd: momentum", 0, 1),
    "optim.nesterov": Field(True, "sgd: Nesterov's form of the momentum"),
    "optim.b1": _number(0.9, "adamw: decay of the first moment", 0, 1),
    "optim.b2": _number(0.999, "adamw: decay of the second moment", 0, 1),
    "optim.eps": _number(1e-8, "adamw: added to the root of the second moment", 0),
    "optim.weight_decay": _number(
        1e-4, "sgd: added to the gradient (L2); adamw: decoupled, times the learning rate", 0
    ),
    "optim.decay_norm_and_bias": Field(False, "decay norm scales and biases as well"),
    "optim.clip_norm": _number(0.0, "largest global norm of the gradient; 0: any", 0),
    "schedule.name": _choice(
        "cosine", ("cosine", "linear", "step", "constant"), "course of the rate after warmup"
    ),
    "schedule.warmup": _duration("0 steps", "linear rise from 0 to the peak"),
    "schedule.boundaries": Field(
        (),
        "step: when the rate is multiplied by schedule.factor, counted from the start",
        "durations, as in ('30 epochs', '60 epochs')",
        lambda v: all(is_duration(d) for d in v),
    ),
    "schedule.factor": _number(0.1, "step: the factor", 0, 1),
    "schedule.end": _number(0.0, "cosine, linear: last rate as a share of the peak", 0, 1),
    "eval.batch_size": _number(256, "images per evaluation step, over all devices", 1),
    "eval.every": _duration("1 epochs", "evaluation during training", empty=True),
    "checkpoint.every": _duration("1 epochs", "saving during training; the end is always saved"),
    "checkpoint.keep": _number(2, "latest checkpoints kept, beside the best by top1", 1),
    "log.every": _duration("50 steps", "training metrics fetched from the devices and written"),
    "log.tensorboard": Field(True, "write TensorBoard files with clu (imports TensorFlow)"),
    "log.profile_steps": _number(0, "steps traced by the profiler early on; 0: none", 0),
}


def base_config() -> ml_collections.ConfigDict:
    """A locked config that holds the default of every field."""
    config = ml_collections.ConfigDict()
    for name, field in SCHEMA.items():
        section, _, key = name.rpartition(".")
        if section and section not in config:
            config[section] = ml_collections.ConfigDict()
        (config[section] if section else config)[key] = field.default
    return config.lock()


def load_config(path: str | Path) -> ml_collections.ConfigDict:
    """Runs `get_config()` of a Python file. Raises ConfigError if the file does not give one."""
    path = Path(path)
    if not path.is_file():
        known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = f"; there are {', '.join(known)}" if known else ""
        raise ConfigError(f"config file {path} does not exist{hint}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config()
    except (AttributeError, KeyError, TypeError, SyntaxError) as error:
        raise ConfigError(f"config file {path}: {error}") from error


def apply_overrides(config: ml_collections.ConfigDict, overrides: Mapping[str, str]) -> None:
    """Sets fields from command-line strings, e.g. {"optim.learning_rate": "0.1"}.

    Raises:
      ConfigError: for a field that does not exist or a value of another type.
    """
    for name, text in overrides.items():
        field = _field(name)
        try:
            value = _parse(text, field.default)
        except ValueError:
            kind = (
                "true or false" if isinstance(field.default, bool) else type(field.default).__name__
            )
            raise ConfigError(
                f"--config.{name}={text} cannot be read; expected {kind}"
                + (f", {field.allowed}" if field.allowed else "")
                + f": {field.meaning}"
            ) from None
        section, _, key = name.rpartition(".")
        (config[section] if section else config)[key] = value


def validate(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for an unknown or missing field, or an impossible value."""
    values = dict(flatten(config))
    for name, value in values.items():
        field = _field(name)
        kind = type(field.default)
        good_type = isinstance(value, (int, float) if kind is float else kind)
        if isinstance(value, bool) and kind is not bool:
            good_type = False
        if not good_type:
            raise ConfigError(
                f"config.{name} = {value!r} is of type {type(value).__name__}; "
                f"expected {kind.__name__}: {field.meaning}"
            )
        try:
            possible = field.test(value)
        except TypeError:
            possible = False
        if not possible:
            raise ConfigError(
                f"config.{name} = {value!r} is not possible; "
                f"expected {field.allowed}: {field.meaning}"
            )
    missing = [name for name in SCHEMA if name not in values]
    if missing:
        raise ConfigError(f"config lacks the fields {', '.join(missing)}; start from base_config()")


def validate_batch(config: ml_collections.ConfigDict, num_devices: int) -> None:
    """Raises ConfigError unless every device gets whole micro-batches and whole norm groups."""
    unit = config.accumulate * max(config.model.bn_group_size, 1)
    if config.batch_size % (num_devices * unit) == 0:
        return
    parts = f"{num_devices} devices"
    if config.accumulate > 1:
        parts += f" x {config.accumulate} micro-batches (accumulate)"
    if config.model.bn_group_size > 1:
        parts += f" x groups of {config.model.bn_group_size} images (model.bn_group_size)"
    step = num_devices * unit
    below = config.batch_size // step * step
    nearest = f"{below} or {below + step}" if below else f"{step}"
    counts = [n for n in range(1, 4097) if config.batch_size % (n * unit) == 0]
    fits = f"device counts {', '.join(map(str, counts))}" if counts else "no device count"
    raise ConfigError(
        f"config.batch_size = {config.batch_size} does not divide by {parts}; "
        f"the nearest batch_size that does is {nearest}. With this one, {fits} would do"
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) in order, lists as tuples."""
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def to_json(config: ml_collections.ConfigDict) -> str:
    """The config as JSON text, in the order of the schema."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
    """The config that `to_json` wrote; fields that were added since get their defaults."""
    config = base_config()
    for name, value in flatten(json.loads(text)):
        _field(name)
        section, _, key = name.rpartition(".")
        (config[section] if section else config)[key] = value
    return config


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each field whose value differs, 'NAME: OLD -> NEW'."""
    before, after = dict(flatten(old)), dict(flatten(new))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, '(absent)')!r} -> {after.get(name, '(absent)')!r}"
        for name in names
        if before.get(name, ...) != after.get(name, ...)
    ]


def _field(name: str) -> Field:
    if name not in SCHEMA:
        by_last_part = {known.rpartition(".")[2]: known for known in SCHEMA}
        near = difflib.get_close_matches(name, SCHEMA, n=1) or [
            by_last_part[part]
            for part in difflib.get_close_matches(name.rpartition(".")[2], by_last_part, n=1)
        ]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"config has no field {name!r}{hint}")
    return SCHEMA[name]


def _parse(text: str, default: Any) -> Any:
    """`text` as a value of the type of `default`; raises ValueError."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if isinstance(default, tuple):
        items = [item.strip(" '\"") for item in text.strip("()[] ").split(",")]
        kind = type(default[0]) if default else str
        return tuple(kind(item) for item in items if item)
    return type(default)(text)

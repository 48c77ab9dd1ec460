"""Configs: made from the schema, changed by files and flags, and checked.

A config is an `ml_collections.ConfigDict` made by `base_config()`, changed by a file in
`configs/` and by `--config.FIELD=VALUE`, and checked by `validate` before anything starts.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from imagenet_jax.config.axes import parse_sharding
from imagenet_jax.config.data_fields import RESAMPLED
from imagenet_jax.config.field import Field
from imagenet_jax.config.files import kind_of
from imagenet_jax.config.hints import likely_fields
from imagenet_jax.config.lists import parse_tuple
from imagenet_jax.config.model_fields import OF_DETECTORS
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.config.task_fields import check_task_fields
from imagenet_jax.errors import ConfigError


def base_config() -> ml_collections.ConfigDict:
    """A locked config that holds the default of every field."""
    config = ml_collections.ConfigDict()
    for name, field in SCHEMA.items():
        section = name.rpartition(".")[0]
        if section and section not in config:
            config[section] = ml_collections.ConfigDict()
        _set(config, name, field.default)
    return config.lock()


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
        _set(config, name, value)


def apply_fields(config: ml_collections.ConfigDict, fields: Mapping[str, Any]) -> None:
    """Sets fields from Python values, e.g. {"optim.learning_rate": 0.1} or {"optim": {...}}.

    A string for a field of another type is read as on the command line.

    Raises:
      ConfigError: for a field that does not exist or a value of another type.
    """
    for name, value in flatten(fields):
        field = _field(name)
        if isinstance(value, str) and not isinstance(field.default, str):
            apply_overrides(config, {name: value})
            continue
        try:
            _set(config, name, str(value) if isinstance(value, os.PathLike) else value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"config.{name} = {value!r} is of type {type(value).__name__}; "
                f"expected {type(field.default).__name__}: {field.meaning}"
            ) from None


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
        except (TypeError, ValueError):
            possible = False
        if not possible:
            raise ConfigError(
                f"config.{name} = {value!r} is not possible; "
                f"expected {field.allowed}: {field.meaning}"
            )
    parse_sharding(values["sharding"])
    if values["model.uniform_drop_path"] != -1 and values["model.drop_path"] != -1:
        raise ConfigError(
            f"config.model.uniform_drop_path = {values['model.uniform_drop_path']} takes the place "
            f"of config.model.drop_path = {values['model.drop_path']}; leave one of the two at -1"
        )
    if values["log.profile_steps"] and not values["log.tensorboard"]:
        raise ConfigError("config.log.profile_steps needs config.log.tensorboard = True")
    if values["data.folds"] and values["data.fold"] >= values["data.folds"]:
        raise ConfigError(
            f"config.data.fold = {values['data.fold']} is none of 0 to "
            f"{values['data.folds'] - 1} (data.folds)"
        )
    if values["data.repeats"] > values["batch_size"]:
        raise ConfigError(
            f"config.data.repeats = {values['data.repeats']} is larger than config.batch_size = "
            f"{values['batch_size']}"
        )
    if 0 < values["data.eval_resize"] < values["data.image_size"]:
        raise ConfigError(
            f"config.data.eval_resize = {values['data.eval_resize']} is smaller than the crop of "
            f"config.data.image_size = {values['data.image_size']}"
        )
    _check_random_crop(values)
    _check_policy(values)
    _check_mixing(values)
    check_task_fields(values)
    missing = [name for name in SCHEMA if name not in values]
    if missing:
        raise ConfigError(f"config lacks the fields {', '.join(missing)}; start from base_config()")


def _check_random_crop(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for an image too small to be cut out of."""
    size = values["data.train_size"] or values["data.image_size"]
    if values["data.train_crop"] == "resize_random_crop" and values["data.train_resize"] < size:
        raise ConfigError(
            f"config.data.train_resize = {values['data.train_resize']} is smaller than the crop of "
            f"{size} pixels that data.train_crop = 'resize_random_crop' takes out of it"
        )


def _check_policy(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for a magnitude or an interpolation that a policy cannot have."""
    policy, method = values["data.policy"], values["data.resize_method"]
    magnitude, most = values["data.policy_magnitude"], values["data.policy_magnitude_max"]
    wrong = f"config.data.policy_magnitude = {magnitude:g} is no"
    if policy == "augmix" and not (1 <= magnitude <= 10 and magnitude % 1 == 0):
        raise ConfigError(f"{wrong} severity of augmix; expected 1 to 10, whole, 3 in the paper")
    if policy == "randaugment" and magnitude % 1:
        raise ConfigError(f"{wrong} magnitude of randaugment; expected a whole number, 0 to 30")
    if policy == "randaugment_timm" and magnitude > most:
        raise ConfigError(
            f"{wrong} magnitude of randaugment_timm; expected 0 to {most:g} "
            "(config.data.policy_magnitude_max)"
        )
    if policy == "randaugment_timm" and method not in (*RESAMPLED, "random"):
        raise ConfigError(
            "config.data.policy = 'randaugment_timm' moves images with config.data.resize_method, "
            f"which is {method!r}; expected {', '.join(RESAMPLED)} or random"
        )
    if method == "random" and not values["data.eval_resize_method"]:
        raise ConfigError(
            "config.data.resize_method = 'random' is of training images; set "
            "config.data.eval_resize_method too, e.g. to 'bicubic'"
        )


def _check_mixing(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for fields of mixup and CutMix that contradict each other."""
    on = {name: values[f"augment.{name}"] for name in ("mixup", "cutmix")}
    now = " and ".join(f"config.augment.{name} = {alpha}" for name, alpha in on.items())
    if values["augment.mix_per"] == "half" and not any(on.values()):
        raise ConfigError(
            f"config.augment.mix_per = 'half' makes one image of two, and there is {now}; set one "
            "above 0, or mix_per = 'pair'"
        )
    each = values["augment.mix_per"] in ("half", "image") and any(on.values())
    if each and values["loss.class_weights"] and values["loss.name"] == "softmax":
        raise ConfigError(
            f"config.augment.mix_per = {values['augment.mix_per']!r} does not go with "
            "config.loss.class_weights, of which two images that are mixed have to weigh as much "
            "together as apart; take mix_per = 'pair' or 'batch', or loss.name = 'sigmoid'"
        )
    if values["augment.flip_alternates"] and not values["augment.flip"]:
        raise ConfigError("config.augment.flip_alternates = True needs config.augment.flip = True")
    if not values["augment.switch_halves"]:
        return
    if any(on.values()) and not all(on.values()):
        raise ConfigError(
            "config.augment.switch_halves = True is mixup for one half of a batch and CutMix for "
            f"the other, and there is {now}; set both above 0, or switch_halves = False"
        )
    if values["augment.switch_prob"] != 0.5:
        raise ConfigError(
            "config.augment.switch_halves = True leaves nothing to the chance "
            f"config.augment.switch_prob = {values['augment.switch_prob']}; leave it at 0.5"
        )


def network_name(config: ml_collections.ConfigDict) -> str:
    """What people call the network, as resnet50 or deeplabv3_resnet50."""
    head, backbone = config.model.head, config.model.name
    if config.task == "multi_task":
        return f"{' + '.join(config.multi_task.tasks)} on {backbone}"
    return f"{head}_{backbone}" if head else backbone


def model_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The fields of config.model that are set, but for its name and those of its head; what has its
    default is the model's own."""
    others = ("name", "head", *OF_DETECTORS)
    return {
        field: value
        for field, value in config.model.items()
        if field == "bn_group_size"
        or (field not in others and value != SCHEMA[f"model.{field}"].default)
    }


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) in order, lists as tuples."""
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def to_json(config: ml_collections.ConfigDict) -> str:
    """The config as JSON text."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
    """The config that `to_json` wrote; fields that were added since get their defaults."""
    return from_dict(json.loads(text))


def from_dict(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The config with these values; fields that are not among them get their defaults.

    Raises:
      ConfigError: for a field that does not exist, or what is no record of fields.
      TypeError: for a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"it holds {kind_of(values)}, not the fields of a config")
    config = base_config()
    for name, value in flatten(values):
        _field(name)
        _set(config, name, value)
    return config


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()
) -> list[str]:
    """One line for each field whose value differs, 'NAME: OLD -> NEW'."""
    before, after = dict(flatten(old)), dict(flatten(new))
    names = [name for name in dict.fromkeys((*before, *after)) if name not in ignore]
    return [
        f"{name}: {before.get(name, '(absent)')!r} -> {after.get(name, '(absent)')!r}"
        for name in names
        if before.get(name, ...) != after.get(name, ...)
    ]


def _set(config: ml_collections.ConfigDict, name: str, value: Any) -> None:
    section, _, key = name.rpartition(".")
    (config[section] if section else config)[key] = value


def _field(name: str) -> Field:
    if name not in SCHEMA:
        near = likely_fields(name)
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
        kind = type(default[0]) if default else str
        return tuple(kind(item) for item in parse_tuple(text))
    return type(default)(text)

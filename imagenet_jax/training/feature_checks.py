"""Which fields about evaluations by features make sense; as `checks`, JAX only if one is set."""

import ml_collections

from imagenet_jax.config.feature_fields import FEATURES
from imagenet_jax.errors import ConfigError
from imagenet_jax.tasks.table import find_task


def check_features(config: ml_collections.ConfigDict) -> None:
    """Raises ConfigError for fields that the task has no use for, or a choice by no metric."""
    how, names = config.eval, [name.removeprefix("eval.") for name in FEATURES]
    changed = [name for name in names if how[name] != FEATURES[f"eval.{name}"].default]
    if not changed:
        return
    if not find_task(config.task).gives_features:
        raise ConfigError(
            f"config.eval.{changed[0]} = {how[changed[0]]!r} is for tasks that learn features "
            f"without labels, not config.task = {config.task!r}"
        )
    if how.knn or how.linear_probe:
        return
    if how.patience or how.report == "best":
        name = "patience" if how.patience else "report"
        raise ConfigError(
            f"config.eval.{name} = {how[name]!r} chooses by a metric of the evaluation, and with "
            "config.eval.knn = 0 and config.eval.linear_probe = False there is none; set one of "
            "the two"
        )

"""A task without labels that a ResNet learns in seconds: the mean of an image's pixels."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from imagenet_jax import augment
from imagenet_jax.models import create_model
from imagenet_jax.tasks import table
from imagenet_jax.tasks.classes import network_options
from imagenet_jax.tasks.pretraining import Pretraining
from imagenet_jax.tasks.task import Outcome, Term

NAME = "pixel_mean"


@dataclasses.dataclass(frozen=True)
class PixelMean(Pretraining):
    """The mean of the features is to be that of the pixels."""

    def model(self, devices=1):
        return create_model(
            self.config.model.name, num_classes=0, **network_options(self.config, devices)
        )

    def training_inputs(self, batch, key, step):
        image, _ = augment.train_inputs(batch, key, step, self.config.augment)
        return image, image.mean((1, 2, 3))

    def terms(self):
        return {"loss": Term(1.0, "count")}

    def denominators(self, batch, key):
        return {"count": batch["mask"].sum()}

    def losses(self, apply: Callable[..., Any], inputs: jax.Array, targets: jax.Array) -> Outcome:
        features, updated = apply(inputs)
        return Outcome({"loss": (features.mean(1) - targets) ** 2}, features, updated)

    def sums(self, outcome, targets, mask):
        return {
            "count": mask.sum(dtype=jnp.int32),
            "loss": jnp.where(mask, outcome.numerators["loss"], 0).sum(),
            "feature_std": self.feature_std_sum(outcome.outputs, mask),
        }


@contextmanager
def as_task() -> Iterator[None]:
    """config.task can be "pixel_mean"."""
    module, names = ModuleType(f"{table.__package__}.{NAME}"), table.task_names()
    module.TASK = PixelMean
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(table, "task_names", lambda: (*names, NAME))
        yield


if __name__ == "__main__":
    import launch

    with as_task():
        sys.exit(launch.main(sys.argv[1:]))

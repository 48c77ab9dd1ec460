"""What an evaluation suite counts: whether the best of the compared classes is a right one."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.augment import Targets
from imagenet_jax.data.sources.imagenet import SYNSETS, imagenet_labels
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.suites.sets import LEFT_OUT, RIGHT
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.metrics import classification_sums, summarize
from imagenet_jax.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class SuiteTask(Classification):
    """Evaluation only, of batches of a `sets.SuiteSplit`.

    One program serves all suites, as each batch says which classes are right and compared. An image
    is right if the best of the compared classes is right, and in the top 5 if one of the five best
    is. Its loss is minus the logarithm of the probability that the right ones have together, of all
    that are compared.
    """

    reads = ("labels",)

    @classmethod
    def of_task(cls, task: Classification) -> "SuiteTask":
        """On the suites with what a classifier has learnt."""
        return cls(task.config, task.class_names)

    def numbers(self) -> np.ndarray:
        """ImageNet's numbers of the classes, int [K]. Raises ConfigError for other classes."""
        names, wrong = self.class_names, None
        try:
            found = np.arange(len(SYNSETS)) if names == SYNSETS else imagenet_labels(names)
        except DataError as error:
            found, wrong = (), error
        if len(found) != len(SYNSETS):
            raise ConfigError(
                f"evaluation suites are for ImageNet's {len(SYNSETS)} classes; this "
                f"{self.config.model.name} has {len(names)} classes, {names[0]!r}, ..."
            ) from wrong
        return found

    def evaluation_sums(self, predictions: jax.Array, targets: Targets, mask: jax.Array) -> Sums:
        """`metrics.classification_sums`, and left_out: images without a right class."""
        right = targets.label == RIGHT
        counts = right.any(-1)
        compared = jnp.where(targets.label == LEFT_OUT, -jnp.inf, predictions)
        best = jnp.where(right, compared, -jnp.inf).argmax(-1).astype(jnp.int32)
        loss = jax.nn.logsumexp(compared, axis=-1)
        loss -= jax.nn.logsumexp(compared, axis=-1, where=right)
        sums = classification_sums(compared, best, loss, mask & counts)
        return {**sums, "left_out": (mask & ~counts).sum(dtype=jnp.int32)}

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        sums = list(sums)
        return {**summarize(sums), "left_out": sum(part["left_out"].item() for part in sums)}

    def observe(self, predictions: jax.Array, targets: Targets) -> dict[str, Any]:
        """Nothing: there is no meter."""
        return {}

    def meter(self, split: Any) -> None:
        return None

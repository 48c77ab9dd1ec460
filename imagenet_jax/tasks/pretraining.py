"""What tasks share that learn without labels: the evaluation of their features."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.classes import ONE, ClassField
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.tasks.task import Batch, Field, Sums, Task


def feature_std(mean: np.ndarray, mean_square: np.ndarray) -> float:
    """How far features of length 1 are spread: 1 in all directions alike, 0 all the same.

    The mean over the dimensions of their standard deviation, times the root of their number, as
    in SimSiam (Chen & He 2020, figure 2).

    Args:
      mean, mean_square: of each dimension and of its square over the images, [D].
    """
    deviations = np.sqrt(np.maximum(mean_square - np.square(mean), 0))
    return float(deviations.mean() * np.sqrt(len(mean)))


class Known(NamedTuple):
    """What is known of images in evaluation: their labels, int32 [B]."""

    label: jax.Array


@dataclasses.dataclass(frozen=True)
class Pretraining(Task):
    """A task without labels; those of the data set are for the evaluation alone.

    Its network gives features float32 [B, D] of images in evaluation, and in training whatever its
    `losses` look at. Its parameters have the paths that they have in the classifier, which can
    start from them: config.finetune.weights = the workdir.

    Attributes:
      class_names: as the data set calls them.
    """

    class_names: tuple[str, ...]

    head_has_norms = True
    train_metrics = ("loss", "feature_std")

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Pretraining":
        return cls(config, tuple(split.source.class_names))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Pretraining":
        return cls(config, tuple(map(str, range(known_size(config.data)[0]))))

    @classmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "Pretraining":
        return cls(config, tuple(facts["class_names"]))

    def facts(self) -> dict[str, Any]:
        return {"learnt_without_labels": self.config.task}

    def fields(self) -> dict[str, Field]:
        return ClassField(ONE, len(self.class_names)).fields

    @property
    def axis_name(self) -> str | None:
        """The mapped axis over which the batch is spread in training, if there is one."""
        return None if self.config.partitioner == "jit" else DATA_AXIS

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[Any, Any]:
        """In evaluation images float32 [B, S, S, 3] and what is `Known`."""
        if train:
            return self.training_inputs(batch, key, step)
        return self.image_inputs(batch["image"]), Known(batch[ONE])

    @abc.abstractmethod
    def training_inputs(self, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        """As `inputs` in training."""

    def zero_sums(self) -> Sums:
        return {"count": jnp.zeros((), jnp.int32), "loss": jnp.zeros(())}

    def evaluation_sums(self, predictions: jax.Array, targets: Known, mask: jax.Array) -> Sums:
        """How many there are: the metrics are those of the features, see `meter`."""
        return {"count": mask.sum(dtype=jnp.int32)}

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples; of training loss and feature_std, see there."""
        total: dict[str, Any] = {}
        for part in sums:
            total = {name: total.get(name, 0.0) + np.float64(part[name]) for name in part}
        count = int(total.get("count", 0))
        found: dict[str, float | int] = {"num_examples": count}
        if "loss" in total:
            found["loss"] = float(total["loss"] / max(count, 1))
        if "feature" in total:
            means = (total[name] / max(count, 1) for name in ("feature", "feature_square"))
            found["feature_std"] = feature_std(*means)
        return found

    def observe(self, predictions: jax.Array, targets: Known) -> dict[str, jax.Array]:
        return {"features": predictions, "label": targets.label}

    # Filled in by the evaluation of features.
    eval_metrics: ClassVar[Mapping[str, bool]] = {"knn": True}
    best = "knn"

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        return {"kNN": f"{result['knn']:.2%}"} if "knn" in result else {}

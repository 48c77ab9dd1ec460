"""What tasks share that learn features without labels: evaluated by what these are worth."""

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
        return cls(config, ())  # what was learnt depends on no classes

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
        """num_examples; of training the mean of each other sum over them."""
        total: dict[str, float] = {}
        for part in sums:
            total = {name: total.get(name, 0.0) + np.float64(part[name]) for name in part}
        count = int(total.pop("count", 0))
        means = {name: float(value / max(count, 1)) for name, value in total.items()}
        return {"num_examples": count, **means}

    def observe(self, predictions: jax.Array, targets: Known) -> dict[str, jax.Array]:
        return {"features": predictions, "label": targets.label}

    # Filled in by the evaluation of features.
    eval_metrics: ClassVar[Mapping[str, bool]] = {"knn": True}
    best = "knn"

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        return {"kNN": f"{result['knn']:.2%}"} if "knn" in result else {}

"""What tasks share that learn without labels: the evaluation of their features."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax.data import Split
from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.classes import ONE, ClassField
from imagenet_jax.devices.parallel import gather_rows
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.tasks.collapse import concern_of, feature_std
from imagenet_jax.tasks.feature_meter import FeatureMeter
from imagenet_jax.tasks.task import Batch, Field, Sums, Task


class Known(NamedTuple):
    """What is known of images in evaluation: their labels, int32 [B]; None if none are read."""

    label: jax.Array | None


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
    gives_features = True
    train_metrics = ("loss", "feature_std")
    eval_metrics: ClassVar[Mapping[str, bool]] = {
        "knn": True,
        "knn_top5": True,
        "linear": True,
        "feature_std": True,
    }
    best = "knn"

    @classmethod
    def reads_of(cls, config: ml_collections.ConfigDict) -> tuple[str, ...]:
        """The label, for the evaluation; nothing where that compares no classes."""
        return (ONE,) if config.eval.knn or config.eval.linear_probe else ()

    @classmethod
    def best_of(cls, config: ml_collections.ConfigDict) -> str:
        """knn, without it linear; without either feature_std, which tells a collapse and no more:
        checks refuse what would choose by it."""
        if config.eval.knn:
            return "knn"
        return "linear" if config.eval.linear_probe else "feature_std"

    @classmethod
    def score(cls, result: Mapping[str, float]) -> float:
        return next(result[name] for name in ("knn", "linear", "feature_std") if name in result)

    @property
    def looks_at_training(self) -> bool:
        """Whether training images are compared with evaluated ones."""
        return bool(self.reads_of(self.config))

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
        return ClassField("".join(self.reads_of(self.config)), len(self.class_names)).fields

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
        return self.image_inputs(batch["image"]), Known(batch.get(ONE))

    @abc.abstractmethod
    def training_inputs(self, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        """As `inputs` in training."""

    def zero_sums(self) -> Sums:
        zero = jnp.zeros(())
        return {"count": jnp.zeros((), jnp.int32), "loss": zero, "feature_std": zero}

    def feature_std_sum(self, features: jax.Array, mask: jax.Array) -> jax.Array:
        """For `sums`: `collapse.feature_std` of the global batch, times this device's images, so
        that `summarize` gives the mean over batches.

        Args:
          features: float32 [b, D], of this device's images.
          mask: bool [b].
        """
        rows, there = gather_rows((jax.lax.stop_gradient(features), mask), self.axis_name)
        return feature_std(rows, there) * mask.sum()

    def evaluation_sums(self, predictions: jax.Array, targets: Known, mask: jax.Array) -> Sums:
        """How many there are: the metrics are those of the features, see `meter`."""
        return {"count": mask.sum(dtype=jnp.int32)}

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples; of training loss and feature_std, means over the images."""
        total: dict[str, Any] = {}
        for part in sums:
            total = {name: total.get(name, 0.0) + np.float64(part[name]) for name in part}
        count = int(total.get("count", 0))
        shown = [name for name in self.train_metrics if name in total]
        return {"num_examples": count} | {k: float(total[k] / max(count, 1)) for k in shown}

    def observe(self, predictions: jax.Array, targets: Known) -> dict[str, jax.Array]:
        known = {} if targets.label is None else {"label": targets.label}
        return {"features": predictions, **known}

    def meter(self, split: Split) -> FeatureMeter:
        how = self.config.eval
        return FeatureMeter(how.knn, how.knn_temperature, how.linear_probe)

    def concern(self, metrics: Mapping[str, float]) -> str:
        """That features have collapsed."""
        return concern_of(metrics.get("feature_std", 1.0))

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        rows = {}
        if "knn" in result:
            rows["nearest neighbours"] = (
                f"{result['knn']:.2%}, among the first five {result['knn_top5']:.2%}"
            )
        if "linear" in result:
            rows["linear probe"] = f"{result['linear']:.2%}"
        return rows | {"feature_std": f"{result['feature_std']:.3f}"}

    def shown(self, predictions: jax.Array) -> dict[str, jax.Array]:
        return {"features": predictions}

    def answer(
        self,
        prediction: Mapping[str, np.ndarray],
        top: int,
        shape: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """features: numbers."""
        return {"features": [float(number) for number in prediction["features"]]}

"""One label for each image."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.augment import Targets
from imagenet_jax.config import model_options
from imagenet_jax.data.names import known_size
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.models import create_model
from imagenet_jax.tasks.losses import cross_entropy, mixed_cross_entropy
from imagenet_jax.tasks.metrics import classification_sums, summarize, zero_sums
from imagenet_jax.tasks.task import Batch, Best, Field, Outcome, Sums, Task, Term


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy, top-1 and top-5.

    Attributes:
      class_names: as the data set calls them.
    """

    class_names: tuple[str, ...]

    best = Best("top1")
    train_metrics = ("loss", "top1")
    eval_metrics = ("loss", "top1", "top5")
    formats: ClassVar[Mapping[str, str]] = {
        "train/loss": "loss {:.4f}",
        "train/top1": "top1 {:.2%}",
        "eval/top1": "eval top1 {:.2%}",
    }

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Classification":
        return cls(config, tuple(split.source.class_names))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Classification":
        return cls.of_size(config, known_size(config.data)[0])

    @classmethod
    def of_facts(
        cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]
    ) -> "Classification":
        return cls(config, tuple(facts["class_names"]))

    @classmethod
    def of_size(cls, config: ml_collections.ConfigDict, classes: int) -> "Classification":
        """Of so many classes, which have numbers for names."""
        return cls(config, tuple(map(str, range(classes))))

    def facts(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}

    def fields(self) -> dict[str, Field]:
        return {"label": Field((), np.int32)}

    def model(self, devices: int = 1) -> nn.Module:
        return make_model(self.config, len(self.class_names), devices=devices)

    @property
    def rows_together(self) -> int:
        return 2 if augment.is_mixing(self.config.augment) else 1

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, Targets]:
        if train:
            return augment.train_inputs(batch, key, step, self.config.augment)
        return augment.eval_image(batch, self.config.augment), Targets(batch["label"])

    def terms(self) -> dict[str, Term]:
        return {
            "loss": Term(1.0, over="examples"),
            "auxiliary": Term(self.config.loss.auxiliary, over="examples"),
        }

    def denominators(self, batch: Batch) -> dict[str, jax.Array]:
        return {"examples": batch["mask"].sum()}

    def losses(
        self, apply: Callable[..., tuple[Any, dict[str, Any]]], inputs: jax.Array, targets: Targets
    ) -> Outcome:
        """Of the network, and of the auxiliary heads that it has in training."""
        logits, updated = apply(inputs)
        smoothing = self.config.loss.label_smoothing
        numerators = {"loss": mixed_cross_entropy(logits, targets, smoothing)}
        heads = jax.tree.leaves(updated.get("auxiliary", {}))
        if heads:
            extra = [mixed_cross_entropy(head, targets, smoothing) for head in heads]
            numerators["auxiliary"] = sum(extra[1:], extra[0])
        return Outcome(numerators, logits, updated)

    def zero_sums(self) -> Sums:
        return zero_sums()

    def sums(self, outcome: Outcome, targets: Targets, mask: jax.Array) -> Sums:
        loss = outcome.numerators["loss"]
        return classification_sums(outcome.outputs, targets.dominant(), loss, mask)

    def evaluation_sums(self, predictions: jax.Array, targets: Targets, mask: jax.Array) -> Sums:
        """With the plain cross-entropy."""
        loss = cross_entropy(predictions, targets.label)
        return classification_sums(predictions, targets.label, loss, mask)

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        return summarize(sums)

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        count = result["num_examples"]
        return {
            "top-1": f"{result['top1']:.2%}  ({result['correct_top1']:,} of {count:,})",
            "top-5": f"{result['top5']:.2%}  ({result['correct_top5']:,} of {count:,})",
            "loss": f"{result['loss']:.4f}",
        }


def make_model(
    config: ml_collections.ConfigDict, num_classes: int, *, devices: int = 1
) -> nn.Module:
    """The model that config.model describes; what has its default there is the model's own."""
    options = model_options(config)
    images = config.batch_size // (config.accumulate * devices)  # of one call on one device
    one_group = config.model.bn_group_size in (0, images)
    options |= {"dtype": config.model.dtype, "fused_norm": config.model.fused_norm and one_group}
    if config.partitioner != "jit":
        options["axis_name"] = DATA_AXIS
    return create_model(config.model.name, num_classes=num_classes, **options)


TASK = Classification

"""One label for each image."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from imagenet_jax.augment import Targets
from imagenet_jax.data import Split
from imagenet_jax.reports.mistakes import Mistakes, example_rows, mistake_lines, write_mistakes
from imagenet_jax.tasks.answers import Answers, answers
from imagenet_jax.tasks.classes import ClassTask
from imagenet_jax.tasks.losses import (
    above,
    binary_cross_entropy,
    class_targets,
    cross_entropy,
    mixed_cross_entropy,
)
from imagenet_jax.tasks.metrics import classification_sums, summarize, zero_sums
from imagenet_jax.tasks.task import Outcome, Sums


@dataclasses.dataclass(frozen=True)
class Classification(ClassTask):
    """Softmax cross-entropy, or binary cross-entropy of each class; top-1 and top-5.

    The binary one is that of "ResNet strikes back" (timm), DeiT III and big_vision.
    """

    best = "top1"
    train_metrics = ("loss", "top1")
    eval_metrics: ClassVar[Mapping[str, bool]] = {"loss": False, "top1": True, "top5": True}
    formats: ClassVar[Mapping[str, str]] = {
        "train/loss": "loss {:.4f}",
        "train/top1": "top1 {:.2%}",
    }

    @property
    def is_binary(self) -> bool:
        return self.config.loss.name == "sigmoid"

    def loss(self, logits: jax.Array, targets: Targets) -> jax.Array:
        loss = self.config.loss
        if not self.is_binary:
            return mixed_cross_entropy(logits, targets, loss.label_smoothing, self.class_weights)
        target = class_targets(targets, logits.shape[-1], loss.label_smoothing)
        target = above(target, loss.target_threshold)
        weights = self.class_weights
        return binary_cross_entropy(logits, target, loss.class_reduction, weights=weights)

    def label_text(self, label: np.ndarray) -> str:
        return self.title(int(label))

    def zero_sums(self) -> Sums:
        return zero_sums()

    def sums(self, outcome: Outcome, targets: Targets, mask: jax.Array) -> Sums:
        loss = self.shown_loss(outcome)
        return classification_sums(outcome.outputs, targets.dominant(), loss, mask)

    def evaluation_sums(self, predictions: jax.Array, targets: Targets, mask: jax.Array) -> Sums:
        """With the plain loss: no smoothing, no threshold, no weights, no teacher."""
        if not self.is_binary:
            loss = cross_entropy(predictions, targets.label)
        else:
            target = class_targets(targets, predictions.shape[-1])
            loss = binary_cross_entropy(predictions, target, self.config.loss.class_reduction)
        return classification_sums(predictions, targets.label, loss, mask)

    def observe(self, predictions: jax.Array, targets: Targets) -> dict[str, jax.Array]:
        return answers(predictions, targets.label, self._probabilities(predictions))

    def meter(self, split: Any) -> Answers:
        return Answers()

    def report(self, meter: Answers, split: Split, folder: Path) -> dict[str, Any]:
        """A confusion matrix, the accuracy of each class, and the images it is most wrong on."""
        mistakes, about = self.mistakes(meter), self.about(split)
        return write_mistakes(mistakes, folder, about, split.example_name, split.images)

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        return mistake_lines(report)

    def example_rows(self, meter: Answers, split: Split) -> Iterator[Sequence[Any]]:
        return example_rows(self.mistakes(meter), split.example_name)

    def mistakes(self, meter: Answers) -> Mistakes:
        """Of a meter that was given all examples."""
        return Mistakes(self.class_names, self.titles, **meter.arrays())

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

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(self._probabilities(logits))

    def _probabilities(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits) if self.is_binary else jax.nn.softmax(logits)


TASK = Classification

"""Several labels for each image, or none."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.augment import Targets
from imagenet_jax.data import Split
from imagenet_jax.reports.label_mistakes import (
    LabelMistakes,
    label_example_rows,
    label_mistake_lines,
    write_label_mistakes,
)
from imagenet_jax.tasks.average_precision import MeanAveragePrecision
from imagenet_jax.tasks.classes import ClassTask
from imagenet_jax.tasks.distillation import of_each_class
from imagenet_jax.tasks.losses import above, binary_cross_entropy, soft_labels
from imagenet_jax.tasks.task import Outcome, Sums

_COUNTS = ("true_positives", "false_positives", "false_negatives")  # of each class


@dataclasses.dataclass(frozen=True)
class Multilabel(ClassTask):
    """Binary cross-entropy of each class; mean average precision, and F1 at a probability of 0.5.

    The loss of an example is the mean or the sum over the classes (config.loss.class_reduction).
    """

    reads = ("labels",)
    best = "map"
    train_metrics = ("loss", "micro_f1")
    eval_metrics: ClassVar[Mapping[str, bool]] = {
        "loss": False,
        "map": True,
        "micro_f1": True,
        "macro_f1": True,
    }
    formats: ClassVar[Mapping[str, str]] = {
        "train/loss": "loss {:.4f}",
        "train/micro_f1": "F1 {:.2%}",
    }

    @property
    def is_binary(self) -> bool:
        return True

    def loss(self, logits: jax.Array, targets: Targets) -> jax.Array:
        loss = self.config.loss
        soft = above(soft_labels(targets), loss.target_threshold)
        how = loss.class_reduction, loss.label_smoothing, self.class_weights
        return binary_cross_entropy(logits, soft, *how)

    def teacher_loss(self, logits: jax.Array, teacher: jax.Array) -> jax.Array:
        how = self.config.distill
        reduction = self.config.loss.class_reduction
        return of_each_class(logits, teacher, how.kind, how.temperature, reduction)

    def label_text(self, label: np.ndarray) -> str:
        return ", ".join(map(self.title, np.flatnonzero(label))) or "none"

    def zero_sums(self) -> Sums:
        none = jnp.zeros(len(self.class_names), jnp.int32)
        return {
            "loss": jnp.zeros(()),
            "count": jnp.zeros((), jnp.int32),
            **dict.fromkeys(_COUNTS, none),
        }

    def sums(self, outcome: Outcome, targets: Targets, mask: jax.Array) -> Sums:
        loss = self.shown_loss(outcome)
        return _sums(outcome.outputs, targets.dominant(), loss, mask)

    def evaluation_sums(self, predictions: jax.Array, targets: Targets, mask: jax.Array) -> Sums:
        """With the plain binary cross-entropy."""
        reduction = self.config.loss.class_reduction
        loss = binary_cross_entropy(predictions, soft_labels(targets), reduction)
        return _sums(predictions, targets.label, loss, mask)

    def observe(self, predictions: jax.Array, targets: Targets) -> dict[str, jax.Array]:
        return {"scores": predictions, "labels": targets.label}

    def meter(self, split: Any) -> MeanAveragePrecision:
        return MeanAveragePrecision()

    def report(self, meter: MeanAveragePrecision, split: Split, folder: Path) -> dict[str, Any]:
        """The average precision of each class, and the images it is most wrong on."""
        mistakes, about = self.mistakes(meter), self.about(split)
        return write_label_mistakes(mistakes, folder, about, split.example_name, split.images)

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        return label_mistake_lines(report)

    def example_rows(self, meter: MeanAveragePrecision, split: Split) -> Iterator[Sequence[Any]]:
        return label_example_rows(self.mistakes(meter), split.example_name)

    def mistakes(self, meter: MeanAveragePrecision) -> LabelMistakes:
        """Of a meter that was given all examples."""
        arrays = meter.arrays()
        return LabelMistakes(
            self.class_names,
            self.titles,
            meter.of_classes,
            arrays["index"],
            self.probabilities(arrays["scores"]),
            arrays["scores"] >= 0,
            arrays["labels"] > 0,
        )

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples; loss, micro_f1 and macro_f1 (0 for a class that is neither there nor
        predicted), NaN without examples."""
        total = dict.fromkeys(("loss", "count", *_COUNTS), 0.0)
        for part in sums:
            total = {name: value + np.float64(part[name]) for name, value in total.items()}
        count = int(total["count"])
        true, *false = (np.asarray(total[name]) for name in _COUNTS)
        whole = 2 * true + sum(false)
        known = 1.0 if count else float("nan")
        return {
            "num_examples": count,
            "loss": float(known * total["loss"] / max(count, 1)),
            "micro_f1": float(known * 2 * true.sum() / max(whole.sum(), 1)),
            "macro_f1": float(known * (2 * true / np.maximum(whole, 1)).mean()),
        }

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        left_out = result["classes_without_examples"]
        note = f"  ({left_out:,} classes that no image has are left out)" if left_out else ""
        return {
            "mAP": f"{result['map']:.2%}{note}",
            "F1": f"micro {result['micro_f1']:.2%}, macro {result['macro_f1']:.2%}",
            "loss": f"{result['loss']:.4f}",
        }

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return np.asarray(jax.nn.sigmoid(logits))


def _sums(logits: jax.Array, labels: jax.Array, loss: jax.Array, mask: jax.Array) -> Sums:
    """Over the examples with mask True; a class is predicted from a probability of 0.5 on."""
    there, predicted, rows = labels > 0, logits >= 0, mask[:, None]

    def count(found: jax.Array) -> jax.Array:
        return (rows & found).sum(0, dtype=jnp.int32)

    return {
        "loss": jnp.where(mask, loss, 0).sum(),
        "count": mask.sum(dtype=jnp.int32),
        "true_positives": count(there & predicted),
        "false_positives": count(~there & predicted),
        "false_negatives": count(there & ~predicted),
    }


TASK = Multilabel

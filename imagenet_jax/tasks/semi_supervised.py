"""What classifiers share that learn from images without labels, too."""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.augment import Targets
from imagenet_jax.reports.sheet import pixels_of
from imagenet_jax.tasks.classification import Classification
from imagenet_jax.tasks.metrics import classification_sums, zero_sums
from imagenet_jax.tasks.task import Batch, Outcome, Sums, Term

VIEWS = 2  # of each image, beside each other in what the network takes


class PartlyKnown(NamedTuple):
    """What is known of training images.

    Attributes:
      label: int32 [B]; 0 where there is none.
      labelled: bool [B], whether there is one.
      factor: of the weight of the loss without labels, float32 [].
    """

    label: jax.Array
    labelled: jax.Array
    factor: jax.Array


class Compared(NamedTuple):
    """What `SemiSupervised.sums` looks at.

    Attributes:
      logits: float32 [B, K], of the view that labels are compared with.
      compares: bool [B], which rows the loss without labels is of.
      confident: bool [B], which of these count in it; None: all.
    """

    logits: jax.Array
    compares: jax.Array
    confident: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class SemiSupervised(Classification):
    """Cross-entropy of the images with labels, and a loss, "consistency", that needs none.

    A batch has the label -1 where it is not known, see `data.sources.labelled`. In evaluation all
    is as in `Classification`.
    """

    # By what the loss without labels is divided, see `denominators`.
    consistency_over: ClassVar[str]

    train_metrics = ("loss", "top1", "consistency")

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, Targets | PartlyKnown]:
        """In training images float32 [B, 2, S, S, 3], two views of each."""
        if not train:
            return super().inputs(batch, key, step, train=False)
        label = batch["label"]
        known = PartlyKnown(jnp.maximum(label, 0), label >= 0, self.factor(step))
        return self.two_views(batch, key), known

    @abc.abstractmethod
    def two_views(self, batch: Batch, key: jax.Array) -> jax.Array:
        """Views of training images, float32 [B, 2, S, S, 3]."""

    def factor(self, step: jax.Array) -> jax.Array:
        """Of config.semi.weight at a step, float32 [] in [0, 1]."""
        del step
        return jnp.ones(())

    def seen(
        self, inputs: jax.Array, targets: Targets | PartlyKnown
    ) -> tuple[np.ndarray, list[str]]:
        """Both views of each image, with its class, or that it has no label."""
        if isinstance(targets, Targets):
            return super().seen(inputs, targets)
        images = pixels_of(inputs.reshape(-1, *inputs.shape[2:]), self.config.augment)
        texts = [
            self.label_text(label) if is_known else "no label"
            for label, is_known in zip(targets.label, targets.labelled, strict=True)
        ]
        return images, [text for text in texts for _ in range(VIEWS)]

    def terms(self) -> dict[str, Term]:
        return {
            "loss": Term(1.0, over="labelled"),
            "auxiliary": Term(self.config.loss.auxiliary, over="labelled"),
            "consistency": Term(self.config.semi.weight, over=self.consistency_over),
        }

    def denominators(self, batch: Batch, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """The images with labels, those without, and all: `consistency_over` is one of them."""
        labelled = batch["label"] >= 0
        return {
            "labelled": (batch["mask"] & labelled).sum(),
            "unlabelled": (batch["mask"] & ~labelled).sum(),
            "examples": batch["mask"].sum(),
        }

    def supervised(
        self, logits: jax.Array, heads: list[jax.Array], known: PartlyKnown
    ) -> dict[str, jax.Array]:
        """The numerators of the images with labels, float32 [B] each, 0 for others.

        Args:
          logits: float32 [B, K].
          heads: as `logits`, of auxiliary heads.
          known: what is known of the images.
        """

        def of(logits: jax.Array) -> jax.Array:
            return jnp.where(known.labelled, self.loss(logits, Targets(known.label)), 0)

        extra = [of(head) for head in heads]
        auxiliary = {"auxiliary": sum(extra[1:], extra[0])} if extra else {}
        return {"loss": of(logits), **auxiliary}

    def zero_sums(self) -> Sums:
        extra = {"consistency": jnp.float32, "weighted": jnp.float32, "compared": jnp.int32}
        extra["confident"] = jnp.int32
        return zero_sums() | {name: jnp.zeros((), dtype) for name, dtype in extra.items()}

    def sums(self, outcome: Outcome, targets: PartlyKnown, mask: jax.Array) -> Sums:
        """Of images with labels those of `Classification`; of what is compared the loss without and
        with its weight, how many images that are, and how many count in it."""
        seen: Compared = outcome.outputs
        numerators, compared = outcome.numerators, mask & seen.compares
        confident = compared if seen.confident is None else compared & seen.confident
        known = mask & targets.labelled
        weighted = jnp.where(compared, numerators["consistency"], 0).sum()
        return {
            **classification_sums(seen.logits, targets.label, numerators["loss"], known),
            "consistency": weighted / jnp.where(targets.factor > 0, targets.factor, 1),
            "weighted": self.config.semi.weight * weighted,
            "compared": compared.sum(dtype=jnp.int32),
            "confident": confident.sum(dtype=jnp.int32),
        }

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """As `Classification`; in training of the images with labels, and over those compared
        consistency, the loss without its weight, and mask_rate, the share that counts in it. The
        loss is then that of both."""
        sums = list(sums)
        found = super().summarize(sums)
        if not sums or "compared" not in sums[0]:
            return found
        total = {
            name: float(sum(part[name].item() for part in sums))
            for name in ("consistency", "weighted", "compared", "confident")
        }
        count = total["compared"] or float("nan")
        found["loss"] += total["weighted"] / count
        return found | {
            "consistency": total["consistency"] / count,
            "mask_rate": total["confident"] / count,
        }

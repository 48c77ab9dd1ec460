"""What tasks share whose network gives a logit for each class."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.augment import Targets
from imagenet_jax.config import model_options
from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.classes import ClassField
from imagenet_jax.data.sources.imagenet import TITLES
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.errors import ConfigError
from imagenet_jax.models import create_model
from imagenet_jax.models.facts import FACTS
from imagenet_jax.tasks import class_scores
from imagenet_jax.tasks.class_weights import class_weights
from imagenet_jax.tasks.distillation import of_one_class
from imagenet_jax.tasks.losses import jensen_shannon
from imagenet_jax.tasks.task import Batch, Field, Outcome, Task, Term
from imagenet_jax.tasks.views import mean_over_views


@dataclasses.dataclass(frozen=True)
class ClassTask(Task):
    """A task on a data set of classes; `reads` says whether images have one of them or several.

    Attributes:
      class_names: as the data set calls them.
      class_weights: what each counts in training; (): all the same.
    """

    class_names: tuple[str, ...]
    class_weights: tuple[float, ...] = ()

    averages_views = True

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "ClassTask":
        weights = class_weights(config, split) if split.train else ()
        return cls(config, tuple(split.source.class_names), weights)

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "ClassTask":
        count = known_size(config.data)[0]
        weights = (1.0,) * count if config.loss.class_weights else ()
        return dataclasses.replace(cls.of_size(config, count), class_weights=weights)

    @classmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "ClassTask":
        return cls(config, tuple(facts["class_names"]))

    @classmethod
    def of_size(cls, config: ml_collections.ConfigDict, classes: int) -> "ClassTask":
        """Of so many classes, which have numbers for names."""
        return cls(config, tuple(map(str, range(classes))))

    def facts(self) -> dict[str, Any]:
        return class_facts(self.class_names)

    def fields(self) -> dict[str, Field]:
        return ClassField(*self.reads, len(self.class_names)).fields

    @property
    @abc.abstractmethod
    def is_binary(self) -> bool:
        """Whether each class is there or not by itself, as in binary cross-entropy."""

    def model(self, devices: int = 1) -> nn.Module:
        name = self.config.model.name
        if self.is_binary and FACTS[name].family == "squeezenet":
            raise ConfigError(
                f"config.model.name = {name!r} cannot say that a class is absent, as its logits "
                "are never negative: it is for the softmax of one label an image; use another one"
            )
        return make_model(self.config, len(self.class_names), devices=devices)

    @property
    def rows_together(self) -> int:
        return augment.rows_together(self.config.augment)

    def kept(self, rows: jax.Array) -> jax.Array:
        return augment.kept_rows(rows, self.config.augment)

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, Targets]:
        (name,) = self.reads
        if not train:
            return self.image_inputs(batch["image"]), Targets(batch[name])
        if self.views > 1:
            batch = augment.by_view(batch, self.views)
        image, weight = augment.train_inputs(batch, key, step, self.config.augment)
        return image, Targets.of_pairs(batch[name][:: self.views], weight)

    @property
    def views(self) -> int:
        """Of an image in training; rows of the inputs, one after the other."""
        return self.config.data.views

    def seen(self, inputs: jax.Array, targets: Targets) -> tuple[np.ndarray, list[str]]:
        """Of mixed images the names of both, with their shares."""
        images, _ = super().seen(inputs, targets)
        texts = [self.label_text(label) for label in np.asarray(targets.label)]
        if targets.weight is not None:
            others = [self.label_text(label) for label in np.asarray(targets.other)]
            shares = np.asarray(targets.weight)
            texts = [
                text if share == 1 else f"{share:.0%} {text}\n{1 - share:.0%} {other}"
                for text, other, share in zip(texts, others, shares, strict=True)
            ]
        each = len(images) // max(len(texts), 1)
        return images, [text for text in texts for _ in range(each)]

    @abc.abstractmethod
    def label_text(self, label: np.ndarray) -> str:
        """The names of an image's classes."""

    def title(self, label: int) -> str:
        """What people call a class."""
        name = self.class_names[label]
        return TITLES.get(name, name)

    @property
    def titles(self) -> list[str]:
        """What people call the classes."""
        return [self.title(label) for label in range(len(self.class_names))]

    def about(self, split: Any) -> str:
        """What is evaluated on a `data.Split`, for a picture's title."""
        return f"{self.config.model.name} on {self.config.data.name}, {split.name}"

    def denominators(self, batch: Batch, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """The examples, and what they weigh where the loss is a weighted mean."""
        found = {"examples": self.kept(batch["mask"]).sum()}
        if self.class_weights and not self.is_binary:  # partners in a mix weigh what both do
            weights = jnp.array(self.class_weights)[batch[self.reads[0]]]
            found["weights"] = jnp.where(batch["mask"], weights, 0).sum()
        return found

    def terms(self) -> dict[str, Term]:
        share = self.config.distill.share if self.config.distill.weights else 0.0
        over = "weights" if self.class_weights and not self.is_binary else "examples"
        return {
            "loss": Term(1 - share, over),
            "auxiliary": Term(self.config.loss.auxiliary * (1 - share), over),
            "teacher": Term(share, over="examples"),
            "views": Term(self.config.loss.jsd, over="examples"),
        }

    def losses(
        self, apply: Callable[..., tuple[Any, dict[str, Any]]], inputs: jax.Array, targets: Targets
    ) -> Outcome:
        """Of the network, and of the auxiliary heads that it has in training."""
        logits, updated = apply(inputs)
        numerators = {"loss": self.loss(logits[:: self.views], targets)}
        if self.views > 1:
            by_view = logits.reshape(-1, self.views, logits.shape[-1])
            numerators["views"], logits = jensen_shannon(by_view), by_view[:, 0]
        heads = jax.tree.leaves(updated.get("auxiliary", {}))
        if heads:
            extra = [self.loss(head[:: self.views], targets) for head in heads]
            numerators["auxiliary"] = sum(extra[1:], extra[0])
        return Outcome(numerators, logits, updated)

    def predict(self, apply: Callable[..., jax.Array], inputs: jax.Array) -> jax.Array:
        """Logits [B, K]: the mean over the views that config.eval.tta names."""
        return mean_over_views(apply, inputs, self.config.eval.tta)

    def distilled(self, outcome: Outcome, teacher: jax.Array) -> Outcome:
        """The second head learns from the teacher where the network has one for it, else the
        only one does."""
        logits, share = outcome.outputs, self.config.distill.share
        for second in jax.tree.leaves(outcome.updated.get("distillation", {})):
            if share in (0, 1):
                raise ConfigError(
                    f"config.distill.share = {share} leaves one of the two heads of "
                    f"config.model.name = {self.config.model.name!r} untrained; 0.5 is DeiT's"
                )
            outcome = outcome._replace(outputs=(logits + second) / 2)
            logits = second
        numerators = outcome.numerators | {"teacher": self.teacher_loss(logits, teacher)}
        if share == 1:
            numerators = {"teacher": numerators["teacher"]}
        return outcome._replace(numerators=numerators)

    def teacher_loss(self, logits: jax.Array, teacher: jax.Array) -> jax.Array:
        """Of the examples, float32 [B], from both's logits float32 [B, K]."""
        distill = self.config.distill
        return of_one_class(logits, teacher, distill.kind, distill.temperature)

    def shown_loss(self, outcome: Outcome) -> jax.Array:
        """What is shown of the examples, float32 [B]: their losses as they are trained, with the
        weights of their classes, and without auxiliary heads."""
        terms, found = self.terms(), outcome.numerators
        shown = [name for name in ("loss", "teacher", "views") if name in found]
        shares = [terms[name].weight * found[name] for name in shown]
        return sum(shares[1:], shares[0])

    @abc.abstractmethod
    def loss(self, logits: jax.Array, targets: Targets) -> jax.Array:
        """Of the examples in training, float32 [B], from their logits float32 [B, K]."""

    @abc.abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of the classes, [K], from the logits [K] of an image."""

    def answer(
        self, prediction: np.ndarray, top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """The `top` most probable classes: label, class_name, title (what people call it, where
        it is one of ImageNet's), probability (0 to 1)."""
        found = class_scores.most_probable(self.probabilities(prediction), top)
        return {
            "classes": [
                {
                    "label": label,
                    "class_name": self.class_names[label],
                    "title": self.title(label),
                    "probability": probability,
                }
                for label, probability in found
            ]
        }

    @staticmethod
    def answer_lines(answer: Mapping[str, Any]) -> list[str]:
        return class_scores.lines(answer["classes"])

    @staticmethod
    def answer_columns(answer: Mapping[str, Any]) -> dict[str, str]:
        return class_scores.columns(answer["classes"])

    @staticmethod
    def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
        class_scores.draw(figure, picture, answer["classes"])


def class_facts(class_names: Sequence[str]) -> dict[str, Any]:
    """`Task.facts` of whatever tells these classes apart, weights of others as well."""
    return {"class_names": list(class_names)}


def make_model(
    config: ml_collections.ConfigDict, num_classes: int, *, devices: int = 1
) -> nn.Module:
    """The model that config.model describes; what has its default there is the model's own."""
    if config.model.head:
        raise ConfigError(
            f"config.model.head = {config.model.head!r} is for config.task = 'segmentation', "
            f"'detection' or 'instances', not {config.task!r}"
        )
    options = network_options(config, devices)
    return create_model(config.model.name, num_classes=num_classes, **options)


def network_options(config: ml_collections.ConfigDict, devices: int) -> dict[str, Any]:
    """The options of `create_model` for batches that are spread over so many devices."""
    options = model_options(config)
    # Of one call on one device.
    views = config.data.views * config.data.crops
    images = config.batch_size * views // (config.accumulate * devices)
    images //= 2 if config.augment.mix_per == "half" else 1
    one_group = config.model.bn_group_size in (0, images)
    options |= {"dtype": config.model.dtype, "fused_norm": config.model.fused_norm and one_group}
    if config.partitioner != "jit":
        options["axis_name"] = DATA_AXIS
    return options

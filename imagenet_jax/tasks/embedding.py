"""Points on a sphere, near each other for images of one class: metric learning, verification."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.config.embedding_fields import WITH_CLASSES
from imagenet_jax.data import Split
from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.classes import ONE, ClassField
from imagenet_jax.devices.parallel import gather_rows, row_numbers
from imagenet_jax.devices.sharding import DATA_AXIS
from imagenet_jax.errors import DataError
from imagenet_jax.models.heads.embedder import create_embedder
from imagenet_jax.reports.pair_mistakes import PairMistakes, write_pair_mistakes
from imagenet_jax.tasks import metric_losses
from imagenet_jax.tasks.classes import network_options
from imagenet_jax.tasks.embedding_checks import check_embedding
from imagenet_jax.tasks.embedding_meter import EmbeddingMeter, result_rows
from imagenet_jax.tasks.group_results import group_lines, group_rows
from imagenet_jax.tasks.metric_losses import Labels, Pairs
from imagenet_jax.tasks.task import Batch, Field, Outcome, Sums, Task, Term

_SUMS = ("loss", "over", "same", "same_pairs", "other", "other_pairs")


class Told(NamedTuple):
    """What is known of the images: their labels int32 [B], and which there are, bool [B]."""

    label: jax.Array
    mask: jax.Array


class Seen(NamedTuple):
    """What `Embedding.losses` saw of the anchors [b] and all rows [B].

    Attributes:
      distances: squared Euclidean ones, float32 [b, B].
      pairs: which are of one class.
      over: what each anchor adds to the denominator, float32 [b].
    """

    distances: jax.Array
    pairs: Pairs
    over: jax.Array


@dataclasses.dataclass(frozen=True)
class Embedding(Task):
    """Losses of config.embedding; verification of pairs and retrieval, also of unknown classes.

    Attributes:
      identities: the names of the classes that are trained on.
      numbers: their labels in the data set; (): 0, 1, 2, ...
    """

    identities: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    is_open_set = True
    head_has_norms = True
    train_metrics = ("loss", "same_distance", "other_distance")
    eval_metrics: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "auc": True,
        "eer": False,
        "tar_at_far_1e3": True,
        "recall_at_1": True,
        "recall_at_5": True,
        "map_at_r": True,
    }
    best = "accuracy"

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Embedding":
        names = tuple(split.source.class_names)
        if not split.train:
            return cls(config, names)
        numbers = np.unique(split.labels).tolist()
        if len(numbers) < 2:
            raise DataError(
                f"{split.name} of {config.data.name} has images of {len(numbers)} class: there is "
                "nothing to tell apart"
            )
        return cls(config, tuple(names[number] for number in numbers), tuple(numbers))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Embedding":
        return cls(config, tuple(map(str, range(known_size(config.data)[0]))))

    @classmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "Embedding":
        return cls(config, tuple(facts["identities"]))

    def learnt_from(self, facts: Mapping[str, Any]) -> "Embedding":
        """The task on these data, for weights that were trained on others."""
        return type(self).of_facts(self.config, facts)

    def facts(self) -> dict[str, Any]:
        return {"identities": list(self.identities)}

    def fields(self) -> dict[str, Field]:
        return ClassField(ONE, len(self.identities)).fields

    def model(self, devices: int = 1) -> nn.Module:
        """The backbone config.model.name, whose last layer gives the embedding.

        Raises:
          ConfigError: for fields that contradict each other.
        """
        check_embedding(self.config)
        classes = len(self.identities) * self.settings.turns
        classes = classes if self.settings.loss in WITH_CLASSES else 0
        return create_embedder(
            self.config.model.name,
            size=self.settings.size,
            classes=classes,
            norm=self.settings.norm,
            **network_options(self.config, devices),
        )

    @property
    def settings(self) -> ml_collections.ConfigDict:
        """config.embedding."""
        return self.config.embedding

    @property
    def axis_name(self) -> str | None:
        """The mapped axis over which the batch is spread in training, if there is one."""
        return None if self.config.partitioner == "jit" else DATA_AXIS

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, Told]:
        """Images float32 [B, S, S, 3]; in training the places of their labels in `identities`."""
        if not train:
            return self.image_inputs(batch["image"]), Told(batch[ONE], batch["mask"])
        image, _ = augment.train_inputs(batch, key, step, self.config.augment)
        if self.settings.turns > 1:
            image = augment.turned(image, augment.train_turns(batch, key, self.settings.turns))
        return image, self._told(batch, key)

    def _told(self, batch: Batch, key: jax.Array) -> Told:
        """The classes of training images; an image that is turned is of another one."""
        label = batch[ONE]
        if self.numbers and self.numbers != tuple(range(len(self.numbers))):
            places = np.zeros(max(self.numbers) + 1, np.int32)
            places[list(self.numbers)] = np.arange(len(self.numbers))
            label = jnp.asarray(places)[label]
        if (turns := self.settings.turns) > 1:
            label = label * turns + augment.train_turns(batch, key, turns)
        return Told(label, batch["mask"])

    def seen(self, inputs: jax.Array, targets: Told) -> tuple[np.ndarray, list[str]]:
        """With the names of the classes."""
        images, _ = super().seen(inputs, targets)
        labels = np.asarray(targets.label) // self.settings.turns
        return images, [self.identities[label] for label in labels]

    def terms(self) -> dict[str, Term]:
        return {"loss": Term(1.0, "over")}

    def denominators(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        """Triplets, images with another of their class, or images; by the labels alone."""
        told = self._told(batch, key)
        return {"over": self._over(told, self._pairs(told)).sum()}

    def _pairs(self, told: Told) -> Pairs:
        """Of this device's images with those of the global batch."""
        places = row_numbers(told.label.shape[0], self.axis_name)
        anchors = Labels(told.label, told.mask, places)
        return metric_losses.pairs_of(anchors, gather_rows(anchors, self.axis_name))

    def _over(self, told: Told, pairs: Pairs) -> jax.Array:
        """What each anchor adds to the denominator, float32 [b]."""
        if self.settings.loss == "triplet":
            return metric_losses.triplets_of(pairs, self.settings.mining)
        there = pairs.same.any(1) if self.settings.loss == "supcon" else told.mask
        return there.astype(jnp.float32)

    def losses(
        self, apply: Callable[..., tuple[Any, dict[str, Any]]], inputs: jax.Array, targets: Told
    ) -> Outcome:
        embedding, updated = apply(inputs)
        pairs = self._pairs(targets)
        rows = gather_rows(embedding, self.axis_name)
        seen = Seen(
            metric_losses.squared_distances(embedding, rows), pairs, self._over(targets, pairs)
        )
        return Outcome({"loss": self._loss(seen, targets, updated)}, seen, updated)

    def _loss(self, seen: Seen, targets: Told, updated: Mapping[str, Any]) -> jax.Array:
        """The numerators of the anchors, float32 [b]."""
        how, compared = self.settings, (seen.distances, seen.pairs)
        if how.loss == "triplet":
            return metric_losses.triplet(*compared, margin=how.triplet_margin, mining=how.mining)
        if how.loss == "supcon":
            return metric_losses.supervised_contrastive(*compared, temperature=how.temperature)
        (cosines,) = updated["auxiliary"]["cosines"]
        if how.loss == "arcface":
            options = {"scale": how.scale, "margin": how.angular_margin}
            return metric_losses.additive_angular(cosines, targets.label, **options)
        if how.loss == "cosface":
            options = {"scale": how.scale, "margin": how.cosine_margin}
            return metric_losses.additive_cosine(cosines, targets.label, **options)
        # One number of the whole batch, of which each image counts an equal share.
        known = Labels(*targets, row_numbers(targets.label.shape[0], self.axis_name))
        rows = gather_rows((cosines, known), self.axis_name)
        options = {"scale": how.proxy_scale, "margin": how.proxy_margin}
        loss = metric_losses.proxy_anchor(*rows, **options)
        return jnp.broadcast_to(loss, targets.label.shape)

    def zero_sums(self) -> Sums:
        return {"count": jnp.zeros((), jnp.int32), **{name: jnp.zeros(()) for name in _SUMS}}

    def sums(self, outcome: Outcome, targets: Told, mask: jax.Array) -> Sums:
        """loss and what it is divided by; cosine distances of pairs of one class and of others."""
        seen: Seen = outcome.outputs
        distances = jax.lax.stop_gradient(seen.distances) / 2
        return {
            "count": mask.sum(dtype=jnp.int32),
            "loss": jnp.where(mask, outcome.numerators["loss"], 0).sum(),
            "over": jnp.where(mask, seen.over, 0).sum(),
            "same": jnp.where(seen.pairs.same, distances, 0).sum(),
            "same_pairs": seen.pairs.same.sum(dtype=jnp.float32),
            "other": jnp.where(seen.pairs.other, distances, 0).sum(),
            "other_pairs": seen.pairs.other.sum(dtype=jnp.float32),
        }

    def evaluation_sums(self, predictions: jax.Array, targets: Told, mask: jax.Array) -> Sums:
        """How many there are: the metrics are of pairs, see `meter`."""
        return {"count": mask.sum(dtype=jnp.int32)}

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples; of training loss, and the mean cosine distances in a batch, same_distance
        and other_distance, NaN without such pairs."""
        total: dict[str, float] = {}
        for part in sums:
            total = {name: total.get(name, 0.0) + np.float64(part[name]) for name in part}
        found = {"num_examples": int(total.get("count", 0))}
        ratios = {
            "loss": ("loss", "over"),
            "same_distance": ("same", "same_pairs"),
            "other_distance": ("other", "other_pairs"),
        }
        for name, (above, below) in ratios.items():
            if below in total:
                known = total[below] > 0
                found[name] = float(total[above] / total[below]) if known else float("nan")
        return found

    def observe(self, predictions: jax.Array, targets: Told) -> dict[str, jax.Array]:
        return {"embedding": predictions, "label": targets.label}

    def meter(self, split: Split) -> EmbeddingMeter:
        """Raises as `EmbeddingMeter.of_split`."""
        return EmbeddingMeter.of_split(self.settings, split)

    def report(self, meter: EmbeddingMeter, split: Split, folder: Path) -> dict[str, Any]:
        """The curve, the distances to accept, and the pairs that are told most wrongly."""
        index, pairs, found = meter.arrays["index"], meter.pairs, meter.verification
        ends = index[pairs.first], index[pairs.second]
        curve = found.distances, found.roc, found.metrics()
        about = f"{self.config.model.name} on {self.config.data.name}, {split.name}"
        how = split.example_name, split.images
        tables = {"groups.csv": group_rows(meter.of_groups["groups"])} if meter.groups else {}
        mistakes = PairMistakes(*ends, pairs.same, *curve)
        return write_pair_mistakes(mistakes, folder, about, *how, tables)

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        files = ", ".join(report.get("files", ()))
        return [f"what goes wrong is in {report['folder']}: {files}"] if files else []

    rows = staticmethod(result_rows)
    result_lines = staticmethod(group_lines)

    def shown(self, predictions: jax.Array) -> dict[str, jax.Array]:
        return {"embedding": predictions}

    def answer(
        self,
        prediction: Mapping[str, np.ndarray],
        top: int,
        shape: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """embedding: numbers, as a vector of length 1."""
        return {"embedding": [float(number) for number in prediction["embedding"]]}


TASK = Embedding

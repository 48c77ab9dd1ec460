"""A class for each pixel."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.config import network_name
from imagenet_jax.config.loss_fields import BALANCED
from imagenet_jax.data import Split
from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.classes import SEGMENTATION
from imagenet_jax.data.sources.map_classes import NO_CLASS
from imagenet_jax.data.sources.masks import FIELD
from imagenet_jax.errors import ConfigError, DataError
from imagenet_jax.models import create_segmenter
from imagenet_jax.models.heads.segmenter import HEADS
from imagenet_jax.reports.map_mistakes import (
    MapMistakes,
    map_mistake_lines,
    write_map_mistakes,
)
from imagenet_jax.reports.palette import (
    draw_legend,
    ground,
    map_image,
    map_of_text,
    map_text,
    overlaid,
)
from imagenet_jax.reports.writers import replacing
from imagenet_jax.tasks.classes import class_facts, network_options
from imagenet_jax.tasks.losses import cross_entropy
from imagenet_jax.tasks.pixel_metrics import class_pixels, pixel_sums, summarize, zero_sums
from imagenet_jax.tasks.segmentation_checks import refused
from imagenet_jax.tasks.task import Batch, Field, Outcome, Sums, Task, Term
from imagenet_jax.tasks.views import views_of

_LEGEND = 8  # classes below a picture


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Softmax cross-entropy of each pixel, the mean over all that have a class; mean IoU.

    Attributes:
      class_names: as the data set calls them.
    """

    class_names: tuple[str, ...]

    reads = (SEGMENTATION,)
    head_has_norms = True
    has_maps = True
    averages_views = True
    takes_scales = True
    best = "miou"
    train_metrics = ("loss", "pixel_accuracy")
    eval_metrics: ClassVar[Mapping[str, bool]] = {
        "loss": False,
        "miou": True,
        "pixel_accuracy": True,
        "mean_accuracy": True,
    }
    formats: ClassVar[Mapping[str, str]] = {
        "train/loss": "loss {:.4f}",
        "train/pixel_accuracy": "pixels {:.2%}",
    }

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Segmentation":
        names = tuple(split.source.class_names)
        if len(names) > NO_CLASS:
            raise DataError(
                f"{config.data.name} has {len(names)} classes of pixels; at most {NO_CLASS} are "
                "possible (of noise: data.fake_classes)"
            )
        weights = config.loss.class_weights
        if weights and weights != BALANCED and len(weights) != len(names):
            raise ConfigError(
                f"config.loss.class_weights has {len(weights)} numbers, and {config.data.name} "
                f"{len(names)} classes"
            )
        return cls(config, names)

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Segmentation":
        count = min(known_size(config.data)[0], NO_CLASS)
        return cls(config, tuple(map(str, range(count))))

    @classmethod
    def of_facts(
        cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]
    ) -> "Segmentation":
        return cls(config, tuple(facts["class_names"]))

    def facts(self) -> dict[str, Any]:
        return class_facts(self.class_names)

    def fields(self) -> dict[str, Field]:
        return {SEGMENTATION: FIELD}

    def model(self, devices: int = 1) -> nn.Module:
        """The head of config.model.head on the backbone config.model.name.

        Raises:
          ConfigError: for what changes images and not their maps, or has no meaning for pixels.
        """
        config = self.config
        if found := [name for name, is_on in refused(config).items() if is_on]:
            raise ConfigError(
                f"config.task = 'segmentation' does not go with config.{' and config.'.join(found)}"
            )
        if config.model.head not in HEADS:
            raise ConfigError(
                f"config.task = 'segmentation' with config.model.head = {config.model.head!r}; "
                f"expected {', '.join(HEADS)}"
            )
        return create_segmenter(
            config.model.name,
            config.model.head,
            num_classes=len(self.class_names),
            auxiliary=config.loss.auxiliary > 0,
            **network_options(config, devices),
        )

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Images float32 [B, S, S, 3] and classes int32 [B, S, S]; NO_CLASS counts for nothing."""
        levels = batch[SEGMENTATION]
        if not train:
            return self.image_inputs(batch["image"]), levels.astype(jnp.int32)
        image = augment.train_image(batch, key, self.config.augment)
        levels = augment.train_map(levels, batch, key, self.config.augment)
        return image, levels.astype(jnp.int32)

    def seen(self, inputs: jax.Array, targets: jax.Array) -> tuple[np.ndarray, list[str]]:
        """The images with the colours of their classes over them."""
        images, _ = super().seen(inputs, targets)
        levels = np.asarray(targets)
        pairs = zip(images, levels, strict=True)
        return np.stack([overlaid(*pair, ground(self.class_names)) for pair in pairs]), []

    def terms(self) -> dict[str, Term]:
        return {
            "loss": Term(1.0, "pixels"),
            "auxiliary": Term(self.config.loss.auxiliary, "pixels"),
        }

    def denominators(self, batch: Batch, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """The pixels that have a class, or what they weigh."""
        weights = self._weights(batch[SEGMENTATION]).sum((1, 2))
        return {"pixels": jnp.where(batch["mask"], weights, 0).sum()}

    def losses(
        self,
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: jax.Array,
        targets: jax.Array,
    ) -> Outcome:
        logits, updated = apply(inputs)
        numerators = {"loss": self._loss(logits, targets)}
        for beside in jax.tree.leaves(updated.get("auxiliary", {})):
            numerators["auxiliary"] = self._loss(beside, targets)
        return Outcome(numerators, logits, updated)

    @property
    def _class_weights(self) -> tuple[float, ...]:
        return tuple(map(float, self.config.loss.class_weights))  # text, of the command line

    def _weights(self, levels: jax.Array) -> jax.Array:
        """What pixels count [B, S, S]: 0 without a class, else 1 or the weight of their class."""
        known = levels < len(self.class_names)
        weights = self._class_weights
        if not weights:
            return known.astype(jnp.float32)
        of_class = jnp.array(weights, jnp.float32)[jnp.where(known, levels, 0)]
        return jnp.where(known, of_class, 0)

    def _loss(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """The sums over the pixels of images, float32 [B], of logits float32 [B, S, S, K]."""
        known = targets < len(self.class_names)
        smoothing, weights = self.config.loss.label_smoothing, self._class_weights
        loss = cross_entropy(logits, jnp.where(known, targets, 0), smoothing, weights)
        return jnp.where(known, loss, 0).sum((1, 2))

    def zero_sums(self) -> Sums:
        return zero_sums()

    def sums(self, outcome: Outcome, targets: jax.Array, mask: jax.Array) -> Sums:
        """loss is that as it is trained, without that of the auxiliary head."""
        return self._sums(outcome.outputs, outcome.numerators["loss"], targets, mask)

    def _sums(
        self, logits: jax.Array, loss: jax.Array, targets: jax.Array, mask: jax.Array
    ) -> Sums:
        known = targets < len(self.class_names)
        return pixel_sums(logits.argmax(-1) == targets, known, loss, mask)

    def predict(self, apply: Callable[..., jax.Array], inputs: jax.Array) -> jax.Array:
        """Logits [B, S, S, K]; of several views of an image their mean."""
        views, size = list(views_of(inputs, self.config)), inputs.shape[1]
        return sum(view.map_back(apply(view.images), size) for view in views) / len(views)

    def shown(self, predictions: jax.Array) -> jax.Array:
        """The most probable class of each pixel, uint8 [B, S, S]."""
        return predictions.argmax(-1).astype(jnp.uint8)

    def evaluation_sums(self, predictions: jax.Array, targets: jax.Array, mask: jax.Array) -> Sums:
        """With the plain cross-entropy, and the pixels of each class, see `MapMistakes.add`."""
        known = targets < len(self.class_names)
        loss = cross_entropy(predictions, jnp.where(known, targets, 0))
        sums = self._sums(predictions, jnp.where(known, loss, 0).sum((1, 2)), targets, mask)
        pixels = class_pixels(predictions.argmax(-1), targets, len(self.class_names))
        return sums | {"of_classes": jnp.where(mask[:, None, None], pixels, 0).sum(0)}

    def observe(self, predictions: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
        predicted = predictions.argmax(-1)
        return {
            "pixels": class_pixels(predicted, targets, len(self.class_names)),
            "predicted": predicted.astype(jnp.uint8),
        }

    def meter(self, split: Any) -> MapMistakes:
        return MapMistakes(len(self.class_names))

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        return summarize(sums)

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        left_out = result["classes_without_pixels"]
        note = f"  ({left_out:,} classes that are nowhere are left out)" if left_out else ""
        return {
            "mIoU": f"{result['miou']:.2%}{note}",
            "pixel accuracy": f"{result['pixel_accuracy']:.2%}  (mean of classes "
            f"{result['mean_accuracy']:.2%})",
            "loss": f"{result['loss']:.4f}",
        }

    def report(self, meter: MapMistakes, split: Split, folder: Path) -> dict[str, Any]:
        """The IoU of each class, and the images with the lowest."""
        about = f"{network_name(self.config)} on {self.config.data.name}, {split.name}"
        how = (split.example_name, split.examples)
        return write_map_mistakes(meter, self.class_names, folder, about, *how)

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        return map_mistake_lines(report)

    def answer(
        self, prediction: np.ndarray, top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """classes: the `top` with the most pixels, each with label, class_name and share, of the
        pixels that the network saw; segmentation: the class of each pixel of the photo, a PNG in
        base64 with VOC's palette, 255 where the network saw nothing."""
        from imagenet_jax.data.images.preprocess import Preprocess

        preprocess = Preprocess(self.config.data, self.config.seed, train=False)
        levels = preprocess.restore_map(prediction, shape, NO_CLASS) if shape else prediction
        counts = np.bincount(levels[levels != NO_CLASS], minlength=len(self.class_names))
        order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]][:top]
        return {
            "classes": [
                {
                    "label": k,
                    "class_name": self.class_names[k],
                    "share": float(counts[k] / counts.sum()),
                }
                for k in order
            ],
            "segmentation": map_text(levels),
        }

    @staticmethod
    def answer_lines(answer: Mapping[str, Any]) -> list[str]:
        return [f"{one['share']:6.1%}  {one['class_name']}" for one in answer["classes"]]

    @staticmethod
    def answer_columns(answer: Mapping[str, Any]) -> dict[str, str]:
        classes = answer["classes"]
        return {
            "classes": "; ".join(one["class_name"] for one in classes),
            "shares": "; ".join(f"{one['share']:.6f}" for one in classes),
        }

    @staticmethod
    def write_map(answer: Mapping[str, Any], path: Path) -> None:
        with replacing(path) as partial:
            map_image(map_of_text(answer["segmentation"])).save(partial, "PNG")

    @staticmethod
    def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
        levels = map_image(map_of_text(answer["segmentation"])).resize(picture.size, 0)
        axes = figure.subplots()
        classes = {one["label"]: one["class_name"] for one in answer["classes"]}
        names = [classes.get(k, "") for k in range(max(classes, default=0) + 1)]
        axes.imshow(overlaid(np.asarray(picture), np.array(levels), ground(names)))
        axes.set_axis_off()
        shown = [(k, name) for k, name in classes.items() if k not in ground(names)]
        draw_legend(axes, shown[:_LEGEND])


TASK = Segmentation

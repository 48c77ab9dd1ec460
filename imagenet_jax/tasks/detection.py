"""Boxes around things, and their classes."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.augment.keys import example_keys, fold_in
from imagenet_jax.config import network_name
from imagenet_jax.config.model_fields import OF_DETECTORS
from imagenet_jax.config.schema import SCHEMA
from imagenet_jax.data import Split
from imagenet_jax.data.names import known_size
from imagenet_jax.data.sources.objects import BOXES, object_fields
from imagenet_jax.data.sources.outlines import OBJECT_MASKS
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.detection import METHODS, Detections, create_detector, detection_method
from imagenet_jax.models.detection.detections import Choice
from imagenet_jax.models.detection.method import Method
from imagenet_jax.models.detection.suppression import RawBoxes, Suppression
from imagenet_jax.reports.box_mistakes import box_mistake_lines, write_box_mistakes
from imagenet_jax.reports.box_pictures import boxed
from imagenet_jax.tasks.box_answers import answer_columns, answer_lines, draw, told
from imagenet_jax.tasks.box_meter import METRICS, BoxMeter
from imagenet_jax.tasks.box_views import found_in_views, raw_of_views, suppression_of
from imagenet_jax.tasks.classes import class_facts, network_options
from imagenet_jax.tasks.detection_checks import check
from imagenet_jax.tasks.task import Batch, Field, Outcome, Sums, Task, Term

_CHOICES = 4  # of the keys of an example: augmentation has those before


def _image(inputs: Any) -> jax.Array:
    """The images of what the network takes."""
    return inputs["image"] if isinstance(inputs, Mapping) else inputs


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """The losses of the detector that config.model.head names; COCO's average precision.

    Attributes:
      class_names: as the data set calls them; none is the background.
      suppresses: whether `predict` ends with suppression, see `without_suppression`.
    """

    class_names: tuple[str, ...]
    suppresses: bool = True

    reads = (BOXES,)
    averages_views = True
    takes_scales = True
    has_boxes = True
    has_masks: ClassVar[bool] = False
    top = 100
    best = "map"
    eval_metrics: ClassVar[Mapping[str, bool]] = dict.fromkeys(METRICS, True)

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Detection":
        return cls(config, tuple(split.source.class_names))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Detection":
        count = known_size(config.data)[0]
        count -= config.data.name == "scenes"  # of whose maps the ground is a class
        return cls(config, tuple(map(str, range(count))))

    @classmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "Detection":
        return cls(config, tuple(facts["class_names"]))

    @property
    def train_metrics(self) -> tuple[str, ...]:
        """The loss and its terms, and the objects that were left out of the images."""
        return ("loss", *self.method.terms, "cut_off", "too_many")

    def facts(self) -> dict[str, Any]:
        return class_facts(self.class_names)

    def fields(self) -> dict[str, Field]:
        return object_fields(self.config.data.max_objects, self.has_masks)

    @functools.cached_property
    def method(self) -> Method:
        """What is made of the network's outputs."""
        strides = tuple(map(int, self.config.model.fpn_strides))  # text, of the command line
        return detection_method(self._head, len(self.class_names), strides, **self._options)

    @property
    def _head(self) -> str:
        """config.model.head. Raises ConfigError for one of another task."""
        heads = [name for name, kind in METHODS.items() if kind.has_masks == self.has_masks]
        if (head := self.config.model.head) not in heads:
            raise ConfigError(
                f"config.task = {self.config.task!r} with config.model.head = {head!r}; expected "
                + ", ".join(heads)
            )
        return head

    @property
    def _options(self) -> dict[str, Any]:
        """The options of the way to detect that are set."""
        options = {
            name: self.config.model[name]
            for name in OF_DETECTORS
            if name not in ("fpn_strides", "fpn_width")
            and self.config.model[name] != SCHEMA[f"model.{name}"].default
        }
        return {**options, "told": self.choice} if self.has_masks else options

    @property
    def choice(self) -> Choice:
        """Which boxes are told: the detector's own, but for what config.eval says."""
        own, fields = METHODS[self._head].choice, self.config.eval
        return Choice(
            own.score if fields.score_threshold == -1 else fields.score_threshold,
            own.iou if fields.nms_threshold == -1 else fields.nms_threshold,
            fields.candidates,
            fields.max_detections or own.most,
        )

    def model(self, devices: int = 1) -> nn.Module:
        """The detector config.model.head on the backbone config.model.name.

        Raises:
          ConfigError: for what changes images and not their boxes, or has no meaning for boxes.
        """
        config = self.config
        check(config, self.choice)
        return create_detector(
            config.model.name,
            config.model.head,
            num_classes=self.method.num_classes,
            strides=self.method.strides,
            features=config.model.fpn_width,
            method=self._options,
            **network_options(config, devices),
        )

    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Images float32 [B, S, S, 3], and the fields of objects; in training with "matched", the
        number of the object of each anchor. A network of two stages takes them all, see
        `Method.outputs`."""
        targets = {name: batch[name] for name in self.fields()}
        if not train:
            return self.image_inputs(batch["image"]), targets
        image = augment.train_image(batch, key, self.config.augment)
        targets |= self._matched(batch, key)
        if not self.method.needs_targets:
            return image, targets
        keys = fold_in(example_keys(key, batch["epoch"], batch["index"]), _CHOICES)
        more = {name: targets[name] for name in (*self.reads, "classes", "matched")}
        return {"image": image, "key": jax.random.key_data(keys), **more}, targets

    def _matched(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        """The boxes as the images are mirrored, and what anchors they are matched with."""
        size = batch["image"].shape[2]
        boxes = augment.train_boxes(batch[BOXES], size, batch, key, self.config.augment)
        matched = self.method.matched(boxes, batch["classes"], size)
        found = {BOXES: boxes, "matched": matched}
        if self.has_masks:
            masks = augment.train_masks(batch[OBJECT_MASKS], batch, key, self.config.augment)
            found[OBJECT_MASKS] = masks
        return found

    def seen(self, inputs: Any, targets: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
        """The images with their boxes, and their classes."""
        images, _ = super().seen(_image(inputs), targets)
        pictures, words = [], []
        for image, boxes, classes in zip(images, targets[BOXES], targets["classes"], strict=True):
            there = np.asarray(classes) >= 0
            labels = np.asarray(classes)[there]
            pictures.append(boxed(image, np.asarray(boxes)[there], labels))
            words.append(", ".join(self.class_names[k] for k in labels))
        return np.stack(pictures), words

    def terms(self) -> dict[str, Term]:
        return {name: Term(1.0, over) for name, over in self.method.terms.items()}

    def denominators(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        matched = self._matched(batch, key)["matched"]
        return self.method.denominators(matched, batch["classes"], batch["mask"])

    def losses(
        self,
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: Any,
        targets: Mapping[str, jax.Array],
    ) -> Outcome:
        outputs, updated = apply(inputs)
        boxes, classes, matched = (targets[name] for name in (BOXES, "classes", "matched"))
        size = _image(inputs).shape[2]
        numerators = self.method.losses(outputs, boxes, classes, matched, size)
        return Outcome(numerators, outputs, updated)

    def zero_sums(self) -> Sums:
        counts = ("count", "objects", "cut_off", "too_many")
        terms = self.method.terms
        floats = {name: jnp.zeros(()) for name in ("loss", *terms, *terms.values())}
        return floats | dict.fromkeys(counts, jnp.zeros((), jnp.int32))

    def sums(self, outcome: Outcome, targets: Mapping[str, jax.Array], mask: jax.Array) -> Sums:
        """Numerators and denominators of the terms; loss is the sum of the former, which `guard`
        looks at."""
        found = {name: jnp.where(mask, part, 0).sum() for name, part in outcome.numerators.items()}
        over = self.method.denominators(targets["matched"], targets["classes"], mask)
        over = {name: over[name] for name in self.method.terms.values()}
        objects = (targets["classes"] >= 0).sum(1)
        cut_off, too_many = targets["left_out"].T
        counts = {"count": jnp.ones_like(objects), "objects": objects}
        counts |= {"cut_off": cut_off, "too_many": too_many}
        whole = {
            name: jnp.where(mask, part, 0).sum(dtype=jnp.int32) for name, part in counts.items()
        }
        return {"loss": sum(found.values()), **found, **over, **whole}

    def predict(self, apply: Callable[..., Any], inputs: jax.Array) -> Detections | RawBoxes:
        """The boxes that are told; of several views of an image all of theirs compete."""
        if self.has_masks:
            return self.method.detections(apply(inputs), inputs.shape[2], self.choice)
        if not self.suppresses:
            return raw_of_views(self.method, apply, inputs, self.config)
        return found_in_views(self.method, apply, inputs, self.config, self.choice)

    def suppressions(self) -> dict[str, Suppression]:
        rule = suppression_of(self.method, self.config, self.choice)
        return {} if rule is None else {"": rule}

    def without_suppression(self) -> "Detection":
        return dataclasses.replace(self, suppresses=False) if self.suppressions() else self

    def evaluation_sums(
        self, predictions: Detections, targets: Mapping[str, jax.Array], mask: jax.Array
    ) -> Sums:
        found = (predictions.scores > 0).sum(1)
        objects = (targets["classes"] >= 0).sum(1)
        counts = {"count": jnp.ones_like(found), "objects": objects, "detections": found}
        return {
            name: jnp.where(mask, part, 0).sum(dtype=jnp.int32) for name, part in counts.items()
        }

    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """num_examples, objects; in training loss, the sum of the terms, each of them, and what was
        left out of the images: cut_off and too_many; in evaluation detections."""
        total: dict[str, Any] = {}
        for part in sums:
            for name, value in part.items():
                kind = np.float64 if np.asarray(value).dtype.kind == "f" else np.int64
                total[name] = total.get(name, 0) + np.asarray(value).astype(kind)
        found = {"num_examples": int(total.pop("count", 0))}
        total.pop("loss", None)
        terms = self.method.terms
        over = {kind: total.pop(kind, 0) for kind in terms.values() if kind in total}
        parts = {
            name: float(total.pop(name) / (over[kind] or float("nan")))
            for name, kind in terms.items()
            if name in total
        }
        loss = {"loss": sum(parts.values())} if parts else {}
        return found | loss | parts | {name: int(count) for name, count in total.items()}

    def observe(
        self, predictions: Detections, targets: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        told = {name: part for name, part in predictions._asdict().items() if part is not None}
        said = {f"predicted_{name}": part for name, part in told.items()}
        apart = ("left_out", OBJECT_MASKS)
        return said | {name: targets[name] for name in self.fields() if name not in apart}

    def meter(self, split: Split) -> BoxMeter:
        return BoxMeter(self.class_names, self._preprocess())

    def _preprocess(self) -> Any:
        """How photos are made ready in evaluation."""
        from imagenet_jax.data.images.preprocess import Preprocess

        return Preprocess(self.config.data, self.config.seed, train=False)

    @staticmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        of_sizes = {name: result[f"map_{name}"] for name in ("small", "medium", "large")}
        sizes = ", ".join(  # without objects of a size there is no number
            f"{name} {'-' if ap is None or np.isnan(ap) else f'{ap:.1%}'}"
            for name, ap in of_sizes.items()
        )
        return {
            "AP (COCO)": f"{result['map']:.2%}  ({sizes})",
            "AP50, AP75": f"{result['map50']:.2%}, {result['map75']:.2%}",
            "AP50 (Pascal VOC)": f"{result['voc_map50']:.2%}",
            "boxes": f"{result['detections']:,} told, {result['objects']:,} objects",
        }

    def report(self, meter: BoxMeter, split: Split, folder: Path) -> dict[str, Any]:
        """The average precision of each class, and the images with the most mistakes."""
        about = f"{network_name(self.config)} on {self.config.data.name}, {split.name}"
        return write_box_mistakes(meter, folder, about, split.example_name, split.examples)

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        return box_mistake_lines(report)

    def answer(
        self, prediction: Detections, top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """See `box_answers.told`."""
        preprocess = self._preprocess() if shape else None
        return told(prediction, self.class_names, top, shape, preprocess)

    answer_lines = staticmethod(answer_lines)
    answer_columns = staticmethod(answer_columns)
    draw = staticmethod(draw)


TASK = Detection

"""What is explained of an image: a class, the segment of a class, or a box; each has a score."""

import abc
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.data.sources.imagenet import TITLES
from imagenet_jax.errors import ConfigError, DataError, did_you_mean
from imagenet_jax.models.detection import Detections
from imagenet_jax.models.detection.boxes import pairwise_iou
from imagenet_jax.models.detection.faster_rcnn import FasterRCNN
from imagenet_jax.reports.palette import ground
from imagenet_jax.tasks.task import Task

_CANDIDATES = 20_000  # boxes of each map: the one that is explained may score little in between
Arrays = Mapping[str, Any]  # of images, [B, ...] each


class Wanted(NamedTuple):
    """What is asked for.

    Attributes:
      label: the number of a class; None: the one that the model says.
      box: which box of a detector, 1 being the best one, of that class if there is one.
    """

    label: int | None = None
    box: int = 1


class Chosen(NamedTuple):
    """What is explained of an image.

    Attributes:
      arrays: what its score is computed from.
      facts: what JSON says of it.
      inside: which pixels of the network's image belong to it, bool [S, S]; None: any might.
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    inside: np.ndarray | None = None


class Target(abc.ABC):
    """What can be explained of a task's answer.

    Attributes:
      task: whose answer it is.
      has_boxes: whether an image has several of them, of which `Wanted.box` is one.
      is_local: whether it is a part of the image.
    """

    has_boxes = False
    is_local = True

    def __init__(self, task: Task):
        self.task = task

    def check(self, wanted: Wanted) -> None:
        """Raises ConfigError if nothing of the kind can be asked for."""
        if wanted.box != 1 and not self.has_boxes:
            raise ConfigError(
                f"box {wanted.box}: config.task = {self.task.config.task!r} tells no boxes"
            )

    @abc.abstractmethod
    def choose(self, prediction: Any, wanted: Wanted) -> Chosen:
        """What is explained of an image.

        Args:
          prediction: what `Task.predict` gives of it, in NumPy.
          wanted: what is asked for.

        Raises:
          DataError: if that is not in the image.
        """

    @abc.abstractmethod
    def score(self, outputs: Any, arrays: Arrays, *, moves: bool = True) -> jax.Array:
        """The number that is explained, float32 [B].

        Args:
          outputs: of the network, of images [B, S, S, 3].
          arrays: those of `choose`, of each image.
          moves: whether the score of a box changes as boxes move.
        """

    def class_facts(self, label: int) -> dict[str, Any]:
        """label, class_name and title."""
        name = self.task.class_names[label]
        return {"label": label, "class_name": name, "title": TITLES.get(name, name)}


class ClassTarget(Target):
    """A class of a classifier; its score is its logit."""

    is_local = False

    def choose(self, prediction: np.ndarray, wanted: Wanted) -> Chosen:
        label = int(prediction.argmax()) if wanted.label is None else wanted.label
        probability = float(self.task.probabilities(prediction)[label])
        facts = self.class_facts(label) | {"probability": probability}
        return Chosen({"label": np.int32(label)}, facts)

    def score(self, outputs: jax.Array, arrays: Arrays, *, moves: bool = True) -> jax.Array:
        return jnp.take_along_axis(outputs, arrays["label"][:, None], 1)[:, 0]


class SegmentTarget(Target):
    """The pixels that a segmenter gives to a class; its score is the mean of their logits of it.

    Seg-Grad-CAM's (Vinogradova et al. 2020, https://arxiv.org/abs/2002.11434), but for the mean in
    the place of the sum. Of a class that has no pixel they are those of the whole image.
    """

    def choose(self, prediction: np.ndarray, wanted: Wanted) -> Chosen:
        levels = prediction.argmax(-1)
        label = wanted.label
        if label is None:
            counts = np.bincount(levels.ravel(), minlength=prediction.shape[-1])
            # What is nothing in particular, only where there is nothing else.
            hidden = [k for k in ground(self.task.class_names) if k < len(counts)]
            behind = np.isin(np.arange(len(counts)), hidden) & (counts > 0)
            label = int(np.where(behind, 0.5, counts).argmax())
        inside = levels == label
        share = float(inside.mean())
        region = inside if share else np.ones_like(inside)
        arrays = {"label": np.int32(label), "region": region}
        facts = self.class_facts(label) | {"share": share}
        return Chosen(arrays, facts, inside if share else None)

    def score(self, outputs: jax.Array, arrays: Arrays, *, moves: bool = True) -> jax.Array:
        label, region = arrays["label"], arrays["region"]
        logits = jnp.take_along_axis(outputs, label[:, None, None, None], 3)[..., 0]
        return jnp.where(region, logits, 0).sum((1, 2)) / region.sum((1, 2))


class BoxTarget(Target):
    """A box of a detector; its score is the highest product of the score of its class and the IoU
    with it of all boxes that the network proposes (D-RISE's, of one class; Petsiuk et al. 2020,
    https://arxiv.org/abs/2006.03204)."""

    has_boxes = True

    def choose(self, prediction: Detections, wanted: Wanted) -> Chosen:
        there = prediction.scores > 0
        if wanted.label is not None:
            there = there & (prediction.classes == wanted.label)
        numbers = np.flatnonzero(there)
        if wanted.box > len(numbers):
            name = "" if wanted.label is None else f" of {self.task.class_names[wanted.label]!r}"
            raise DataError(f"it has {len(numbers)} boxes{name}, and box {wanted.box} is asked for")
        number = numbers[wanted.box - 1]
        label, box = int(prediction.classes[number]), np.float32(prediction.boxes[number])
        size = self.task.config.data.image_size
        places = np.arange(size) + 0.5
        across, down = ((places > box[k]) & (places < box[k + 2]) for k in (0, 1))
        facts = self.class_facts(label) | {"box": box.tolist()}
        return Chosen({"label": np.int32(label), "box": box}, facts, down[:, None] & across)

    def score(
        self, outputs: Mapping[str, jax.Array], arrays: Arrays, *, moves: bool = True
    ) -> jax.Array:
        method, size = self.task.method, self.task.config.data.image_size
        # Of Mask R-CNN, too, whose outputs hold what Faster R-CNN's do.
        find = FasterRCNN.candidates if isinstance(method, FasterRCNN) else type(method).candidates
        choice = dataclasses.replace(self.task.choice, candidates=_CANDIDATES)
        found = find(method, outputs, size, choice)
        boxes, scores, classes = (jnp.concatenate(part, 1) for part in zip(*found, strict=True))
        overlap = pairwise_iou(boxes, arrays["box"][:, None])[..., 0]
        # It has a kink where both are the same: rounding would decide on the gradient there.
        overlap = overlap if moves else jax.lax.stop_gradient(overlap)
        of_class = classes == arrays["label"][:, None]
        return jnp.where(of_class, jnp.maximum(scores, 0) * overlap, 0).max(1)


def target_of(task: Task) -> Target:
    """What can be explained of a task that is not several ones.

    Raises:
      ConfigError: for one that tells neither classes nor segments nor boxes.
    """
    if task.is_open_set or task.gives_features:
        what = "embeddings" if task.is_open_set else "features"
        raise ConfigError(
            f"config.task = {task.config.task!r} gives {what}, and what can be explained is a "
            "class, a segment or a box"
        )
    if task.has_boxes:
        return BoxTarget(task)
    return SegmentTarget(task) if task.has_maps else ClassTarget(task)


def find_label(name: str, class_names: Sequence[str]) -> int:
    """The number of a class by its name, by what people call it, or by its number.

    Raises:
      ConfigError: if there is no such class.
    """
    if name in class_names:
        return class_names.index(name)
    titles = [TITLES.get(other, other).lower() for other in class_names]
    if name.lower() in titles:
        return titles.index(name.lower())
    if re.fullmatch("[0-9]{1,9}", name) and int(name) < len(class_names):
        return int(name)
    last = len(class_names) - 1
    hint = did_you_mean(name.lower(), titles)
    raise ConfigError(f"there is no class {name!r}; expected a name or 0 to {last}{hint}")


def part_of(task: Task, name: str) -> tuple[Task, Callable[[Any], Any]]:
    """A task that can be explained, and a function that takes what is its own of outputs.

    Args:
      task: of the run.
      name: of one of several; "": the only one, or the first.

    Raises:
      ConfigError: if there is none of that name.
    """
    parts = getattr(task, "tasks", None)
    if parts is None:
        if name:
            raise ConfigError(
                f"--part={name} is for config.task = 'multi_task', not {task.config.task!r}"
            )
        return task, lambda outputs: outputs
    name = name or next(iter(parts))
    if name not in parts:
        raise ConfigError(f"--part={name}; expected one of {', '.join(parts)}")
    return parts[name], lambda outputs: outputs[0][name]

"""The interface behind which everything stands that differs between tasks.

To add a task, write one file here with a subclass of `Task`, end it with TASK = that class, and
name the file in a config: config.task. What a run does with it:

1. `fields` says what a batch holds beside image, mask, index and epoch.
2. `model` makes the network.
3. In the compiled step `inputs` turns a batch into what the network takes and what it should
   find, `losses` calls the network, and the loss that is trained is, over all terms,

       sum of weight x numerators of the examples / denominator

   with the numerators of this device's examples, and a denominator that is summed over all
   devices and micro-batches before. So the gradient is the same however a batch is spread.
4. `sums` are added up over steps, devices and batches; `summarize` makes metrics of them.
5. Evaluation calls `predict` instead of `losses`, and `evaluation_sums`. What sums cannot say, as
   the average precision, a `meter` computes on the host from what `observe` gives of each example.
6. `launch.py predict` shows photos by `predict`, `answer`, `answer_lines` and `draw`.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from imagenet_jax import augment
from imagenet_jax.data.sources.source import Field
from imagenet_jax.errors import ConfigError
from imagenet_jax.reports.sheet import pixels_of

Batch = Mapping[str, jax.Array]
Sums = dict[str, jax.Array]


class Term(NamedTuple):
    """A term of the loss.

    Attributes:
      weight: what it counts.
      over: the denominator by which the sum of its numerators is divided.
    """

    weight: float
    over: str


class Outcome(NamedTuple):
    """What the network made of a batch in training.

    Attributes:
      numerators: {term: float32 [B]}; terms may be absent.
      outputs: whatever `Task.sums` looks at.
      updated: the collections that the network changed, "batch_stats" if it has any.
    """

    numerators: dict[str, jax.Array]
    outputs: Any
    updated: dict[str, Any]


class Meter(Protocol):
    """Metrics of a whole split that are computed on the host.

    In each of several processes there is one, and each is given all examples of the split.
    """

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes what `Task.observe` gave, [n, ...] each, of further n examples."""

    def metrics(self) -> dict[str, float | int]:
        """The metrics of all examples."""


class LearningMeter(Meter, Protocol):
    """One of a task that `looks_at_training`."""

    def learn(self, observed: Mapping[str, np.ndarray]) -> None:
        """As `add`, of training images in evaluation mode; all of them come before those."""


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What a run learns. Static, like the model: no arrays.

    Attributes:
      config: of the run.
    """

    config: ml_collections.ConfigDict

    # The fields that the data set must have; sources know `data.sources.classes` by their names.
    reads: ClassVar[tuple[str, ...]] = ("label",)
    # Whether the network has BatchNorm beyond that of the backbone that config.model.name names.
    head_has_norms: ClassVar[bool] = False
    # Whether it tells a class for each pixel, see `write_map`.
    has_maps: ClassVar[bool] = False
    # Whether it tells boxes around things, see `inference.coco_predictions`.
    has_boxes: ClassVar[bool] = False
    # Whether it is evaluated on other classes than those of training.
    is_open_set: ClassVar[bool] = False
    # How many things `predict` tells of a photo unless it is said.
    top: ClassVar[int] = 5
    # Whether `predict` averages over the views of config.eval.tta.
    averages_views: ClassVar[bool] = False
    # Whether it learns from the average of its own weights, by `losses_beside`.
    learns_from_average: ClassVar[bool] = False
    # Whether it looks at images in the sizes of config.eval.scales.
    takes_scales: ClassVar[bool] = False
    # Whether `predict` gives features, float32 [B, D], and nothing that was learnt is of classes.
    gives_features: ClassVar[bool] = False

    @classmethod
    def reads_of(cls, config: ml_collections.ConfigDict) -> tuple[Any, ...]:
        """`reads`; of several tasks at once those of each."""
        del config
        return cls.reads

    @classmethod
    @abc.abstractmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "Task":
        """The task on the data of a `data.Split`."""

    @classmethod
    @abc.abstractmethod
    def described(cls, config: ml_collections.ConfigDict) -> "Task":
        """The task on data that need not be opened, to check a config or to study its step."""

    @classmethod
    @abc.abstractmethod
    def of_facts(cls, config: ml_collections.ConfigDict, facts: Mapping[str, Any]) -> "Task":
        """The task of a checkpoint, from what `facts` said when it was written."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the meaning of an output depends on; kept in checkpoints, equal when resumed."""

    def learnt_from(self, facts: Mapping[str, Any]) -> "Task":
        """The task on these data with weights that were learnt by one with such `facts`: this one,
        unless it can do with others."""
        del facts
        return self

    @abc.abstractmethod
    def fields(self) -> dict[str, Field]:
        """What a batch holds beside image, mask, index and epoch."""

    @abc.abstractmethod
    def model(self, devices: int = 1) -> nn.Module:
        """The network, for batches that are spread over so many devices."""

    @property
    def rows_together(self) -> int:
        """How many neighbouring rows of a batch have to stay in one micro-batch."""
        return 1

    def kept(self, rows: jax.Array) -> jax.Array:
        """What is known of each row of a batch [B, ...], of those that training makes inputs of."""
        return rows

    @abc.abstractmethod
    def inputs(
        self, batch: Batch, key: jax.Array | None, step: jax.Array | None, *, train: bool
    ) -> tuple[Any, Any]:
        """What the network takes, and what it should find; augmented in training.

        Args:
          batch: image uint8 [B, S, S, 3], mask, index, epoch and `fields`.
          key: of the run; each example's is derived from it. None in evaluation.
          step: number of the step, int32 []. None in evaluation.
          train: whether to augment.
        """

    @abc.abstractmethod
    def terms(self) -> dict[str, Term]:
        """The terms of the loss."""

    @abc.abstractmethod
    def denominators(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        """{name: number []}, sums over the examples of a batch, from the data alone; the key is
        that of `inputs`."""

    @abc.abstractmethod
    def losses(
        self, apply: Callable[..., tuple[Any, dict[str, Any]]], inputs: Any, targets: Any
    ) -> Outcome:
        """Calls the network in training.

        Args:
          apply: inputs -> outputs and updated collections.
          inputs, targets: see `inputs`.
        """

    def losses_beside(
        self,
        average: Callable[[Any], Any],
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: Any,
        targets: Any,
    ) -> Outcome:
        """As `losses`, which it is unless a task `learns_from_average`; the step calls this.

        Args:
          average: inputs -> outputs of the network with the averaged weights, config.ema_decay, in
            training mode: BatchNorm sees the batch, and nothing that it updates is kept. It has no
            gradient.
          apply, inputs, targets: as of `losses`.
        """
        del average
        return self.losses(apply, inputs, targets)

    def distilled(self, outcome: Outcome, teacher: Any) -> Outcome:
        """What `losses` gave, and what it adds that a teacher was shown the same inputs.

        Args:
          outcome: with the collection "distillation", if the network has outputs for a teacher.
          teacher: the teacher's outputs.

        Raises:
          ConfigError: where there is no learning from a teacher.
        """
        raise ConfigError(
            f"config.task = {self.config.task!r} does not learn from a teacher; set "
            "config.distill.weights to ''"
        )

    @abc.abstractmethod
    def zero_sums(self) -> Sums:
        """The sums over no examples."""

    @abc.abstractmethod
    def sums(self, outcome: Outcome, targets: Any, mask: jax.Array) -> Sums:
        """Sums over the examples with mask True; "loss" and "count" are among them."""

    def image_inputs(self, image: jax.Array) -> Any:
        """What the network takes of images uint8 [B, S, S, 3] that are not augmented."""
        return augment.eval_image({"image": image}, self.config.augment)

    def seen(self, inputs: Any, targets: Any) -> tuple[np.ndarray, list[str]]:
        """What `inputs` gives, for people: images uint8 [B, S, S, 3], and what is to be found in
        each, in lines of words; none where words do not say it."""
        del targets
        return pixels_of(inputs, self.config.augment), []

    def predict(self, apply: Callable[..., Any], inputs: Any) -> Any:
        """What evaluation looks at: the network's outputs, and whatever is made of them."""
        return apply(inputs)

    def suppressions(self) -> dict[str, Any]:
        """What `without_suppression` leaves to be done, a `Suppression` each by the names of tasks,
        "" of a single one.

        Raises:
          ExportError: for a network that suppresses boxes before its end.
        """
        return {}

    def without_suppression(self) -> "Task":
        """The task whose `predict` gives `RawBoxes` where this one suppresses some of them; raises
        as `suppressions`."""
        return self

    def shown(self, predictions: Any) -> Any:
        """What `answer` needs of what `predict` gives; what is smaller leaves the device sooner."""
        return predictions

    @abc.abstractmethod
    def evaluation_sums(self, predictions: Any, targets: Any, mask: jax.Array) -> Sums:
        """As `sums`, of what `predict` gives."""

    @abc.abstractmethod
    def summarize(self, sums: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float | int]:
        """Adds sums up on the host: num_examples and the metrics, loss among them."""

    def completed(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What `summarize` and `meter` found together, and what follows from both."""
        return dict(result)

    def observe(self, predictions: Any, targets: Any) -> dict[str, jax.Array]:
        """What `meter` is given, [B, ...] each; nothing where there is none."""
        return {}

    def meter(self, split: Any) -> Meter | None:
        """A new one for a `data.Split`, or None."""
        return None

    @property
    def looks_at_training(self) -> bool:
        """Whether its meter is a `LearningMeter`, which is given the training images first."""
        return False

    def concern(self, metrics: Mapping[str, float]) -> str:
        """What people should be warned of by metrics of training or of an evaluation, a line; ""
        where all is well."""
        return ""

    def metered(self, sums: Mapping[str, np.ndarray], meter: Meter | None) -> Mapping[str, Any]:
        """Of what `evaluation_sums` gave of a batch what `summarize` adds up; of the rest a meter
        may take note."""
        del meter
        return sums

    def report(self, meter: Meter, split: Any, folder: Path) -> dict[str, Any]:
        """Writes what goes wrong on a `data.Split` into a folder, by a meter that was given it.

        Returns:
          What JSON says of it; {} where there is nothing.
        """
        return {}

    @staticmethod
    def report_lines(report: Mapping[str, Any]) -> list[str]:
        """What `report` gave, as lines of text."""
        return []

    def example_rows(self, meter: Meter, split: Any) -> Iterator[Sequence[Any]]:
        """What was said of each example, a row each after that of the columns' names.

        Raises:
          ConfigError: where there is nothing to be said of a single one.
        """
        raise ConfigError(f"config.task = {self.config.task!r} has no table of single images")

    # What a run shows: metrics of training; those of evaluation, and whether a higher one is
    # better; that of them which patience, the best checkpoint and sweeps look at.
    train_metrics: ClassVar[tuple[str, ...]] = ("loss",)
    eval_metrics: ClassVar[Mapping[str, bool]] = {"loss": False}
    best: ClassVar[str] = "loss"
    # Of the metrics that the progress bar has, {"train/NAME": format}.
    formats: ClassVar[Mapping[str, str]] = {"train/loss": "loss {:.4f}"}

    @classmethod
    def best_of(cls, config: ml_collections.ConfigDict) -> str:
        """`best`, where that depends on the config."""
        del config
        return cls.best

    @classmethod
    def score(cls, result: Mapping[str, float]) -> float:
        """A number that is larger for a better result of an evaluation."""
        return result[cls.best] if cls.eval_metrics[cls.best] else -result[cls.best]

    @staticmethod
    @abc.abstractmethod
    def rows(result: Mapping[str, Any]) -> dict[str, str]:
        """Lines of the table at the end of a verb, {what: value with unit}."""

    @staticmethod
    def result_lines(result: Mapping[str, Any]) -> list[str]:
        """What is told below that table of a result, as lines of text."""
        return []

    def answer(
        self, prediction: Any, top: int, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """What JSON says of an image.

        Args:
          prediction: what `shown` gives, of one example, in NumPy.
          top: how many things to tell, the best first.
          shape: height and width of the image, before it was made ready for the network; None: as
            the network sees it.

        Raises:
          ConfigError: where there is nothing to be shown of a single image.
        """
        raise ConfigError(f"config.task = {self.config.task!r} tells nothing of a single image")

    def part_that(self, attribute: str) -> "tuple[str, Task] | None":
        """This task, or one of several with its name, if such an attribute as has_boxes is true."""
        return ("", self) if getattr(self, attribute) else None

    @staticmethod
    def answer_lines(answer: Mapping[str, Any]) -> list[str]:
        """What `answer` gave, as lines of text."""
        return [str(answer)]

    @staticmethod
    def answer_columns(answer: Mapping[str, Any]) -> dict[str, str]:
        """What `answer` gave, as columns of a table, the same ones for every image."""
        return {"answer": str(answer)}

    @staticmethod
    def write_map(answer: Mapping[str, Any], path: Path) -> None:
        """Writes the classes of the pixels of an image as PNG, from what `answer` gave."""
        raise NotImplementedError

    @staticmethod
    def draw(figure: Any, picture: Any, answer: Mapping[str, Any]) -> None:
        """Draws a photo (of Pillow) and what `answer` gave into a SubFigure of matplotlib."""
        axes = figure.subplots()
        axes.imshow(np.asarray(picture))
        axes.set_axis_off()

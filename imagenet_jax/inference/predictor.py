"""A trained model as an object: photos in, answers, outputs or features out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from imagenet_jax.config import apply_fields, validate
from imagenet_jax.errors import CheckpointError, ConfigError, DataError
from imagenet_jax.inference.evaluate import evaluate_trained
from imagenet_jax.inference.explanation.explainer import Explainer, Explanation
from imagenet_jax.inference.features import head_inputs
from imagenet_jax.inference.photos import MOST, is_several, model_inputs
from imagenet_jax.inference.pretrained import pretrained_model
from imagenet_jax.reports.workdir import (
    check_which,
    checkpoints_of,
    reported_checkpoint,
    saved_config,
)
from imagenet_jax.training.checks import check_fields
from imagenet_jax.training.trained import TrainedModel, trained_model
from imagenet_jax.weights.pretrained import pretrained_config


class Predictor:
    """A trained model, ready to use.

    An image is the path of a file; the bytes of one; an image of Pillow's; or an array uint8
    [H, W, 3] of RGB, or [H, W] of grey. Of any size: it is cropped and resized as the model
    wants it. Several are a sequence of images, or an array [N, H, W, 3].
    """

    def __init__(self, trained: TrainedModel):
        """Of a model that is there; `pretrained` and `from_run` read one."""
        self.trained = trained
        self._programs: dict[Any, Callable[[Any, np.ndarray], Any]] = {}
        self._explainers: dict[Any, Explainer] = {}

    @classmethod
    def pretrained(
        cls,
        name: str,
        *,
        file: str | Path = "",
        class_names: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> "Predictor":
        """Pretrained weights, fetched if need be.

        Args:
          name: of weights, as "efficientnet_lite0" or "resnet50.tv_in1k".
          file: take these weights instead, for the model of that name.
          class_names: of the file, if it does not say them and they are not ImageNet's.
          fields: of the config, as {"data.image_size": 288}.

        Raises:
          ConfigError: if there are no such weights, or no such field.
          WeightsError: if they cannot be fetched or read, or their classes are not known.
        """
        config = pretrained_config(name)
        _change(config, fields)
        return cls(pretrained_model(name, config, str(file), tuple(class_names)))

    @classmethod
    def from_run(
        cls,
        workdir: str | Path,
        *,
        checkpoint: str | int = "",
        fields: Mapping[str, Any] | None = None,
    ) -> "Predictor":
        """What a run has learnt; with its averaged weights, where it has any and evaluates them.

        Args:
          workdir: of the run.
          checkpoint: "latest", "best" or a step; "": the one that the run reports.
          fields: of the config, as {"data.image_size": 288}.

        Raises:
          CheckpointError: if there is no such checkpoint.
          ConfigError: for a field that does not exist.
        """
        workdir = Path(workdir).expanduser()
        folder, config = checkpoints_of(workdir), saved_config(workdir)
        if config is None:
            raise CheckpointError(f"{workdir} holds no run: its config.json is missing")
        which = str(checkpoint or reported_checkpoint(config))
        check_which(folder, which)
        _change(config, fields)
        return cls(trained_model(workdir, which, config))

    @property
    def name(self) -> str:
        """Of the weights, or the working directory and the step."""
        return self.trained.name

    @property
    def model(self) -> nn.Module:
        """The Linen module."""
        return self.trained.model

    @property
    def variables(self) -> dict[str, Any]:
        """Its params and batch_stats."""
        return self.trained.variables

    @property
    def config(self) -> ml_collections.ConfigDict:
        """How images get to the model, and more."""
        return self.trained.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the outputs stand for, as the data set calls them: of ImageNet the synsets; () of
        embeddings."""
        return getattr(self.trained.task, "class_names", ())

    def __call__(
        self, images: Any, top: int | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """What the task of the model tells of images, as `predict --json` has it.

        Args:
          images: one or several, see the class.
          top: how many classes or boxes to tell of an image, the most probable first; None: five
            classes, 100 boxes.

        Returns:
          Of an image a dict; {"classes": [{"label", "class_name", "title", "probability"}]} of a
          classifier. Of several a list of them.

        Raises:
          DataError: for what is no image.
        """
        answers = []
        for pixels, shapes in model_inputs(images, self.config):
            found = self.shown(pixels)
            answers += [self.answer(found, row, top, shape) for row, shape in enumerate(shapes)]
        return answers if is_several(images) else answers[0]

    def answer(
        self, shown: Any, row: int, top: int | None = None, shape: tuple[int, int] | None = None
    ) -> dict[str, Any]:
        """What is told of one row of what `shown` gives.

        Args:
          shown: of some images.
          row: which of them.
          top: how many things to tell; None: as many as the task has it, see `Task.top`.
          shape: its height and width, where classes of its pixels are told; None: those that the
            network sees.
        """
        of_image = jax.tree.map(lambda array: array[row], shown)
        task = self.trained.task
        return task.answer(of_image, task.top if top is None else top, shape)

    def shown(self, pixels: np.ndarray) -> Any:
        """What `answer` needs of what `preprocess` gave."""
        return self._run("shown", _parts(pixels))

    def preprocess(self, images: Any) -> np.ndarray:
        """What the model sees of images before it is normalised, uint8 [N, S, S, 3].

        Raises:
          DataError: for what is no image, or not of the size that config.data wants.
        """
        return np.concatenate([pixels for pixels, _ in model_inputs(images, self.config)])

    def outputs(self, images: Any) -> Any:
        """What the network makes of images, logits float32 [N, K] of a classifier.

        Raises:
          DataError: as `preprocess`.
        """
        return self._run("outputs", (pixels for pixels, _ in model_inputs(images, self.config)))

    def outputs_of(self, pixels: np.ndarray) -> Any:
        """As `outputs`, of what `preprocess` gave."""
        return self._run("outputs", _parts(pixels))

    def features(self, images: Any, names: Sequence[str] = ()) -> Any:
        """Features of images, to compare them or to learn from.

        Args:
          images: one or several, see the class.
          names: of maps, see `levels`; (): what the last layer sees.

        Returns:
          float32 [N, D]; with `names` {name: [N, h, w, C]}.

        Raises:
          DataError: as `preprocess`.
          ValueError: for a map that the model does not have.
        """
        return self._run(tuple(names), (pixels for pixels, _ in model_inputs(images, self.config)))

    def explain(
        self,
        images: Any,
        methods: Sequence[str] = (),
        *,
        of_class: str | int = "",
        box: int = 1,
        **how: Any,
    ) -> Explanation | list[Explanation]:
        """Heat maps of what the answer about images depends on.

        Args:
          images: one or several, see the class, of which several give a list.
          methods, of_class, box: see `Explainer.explain`.
          **how: part, map_name and steps, see `Explainer`.

        Raises:
          ConfigError: for what the model does not have.
          DataError: as `preprocess`, or for an image that does not have the box.
        """
        key = tuple(sorted(how.items()))
        if key not in self._explainers:
            self._explainers[key] = Explainer(self.trained, **how)
        found: list[Any] = []
        for pixels, _ in model_inputs(images, self.config):
            found += self._explainers[key].explain(pixels, methods, of_class=of_class, box=box)
        for number, one in enumerate(found):
            if isinstance(one, DataError):
                raise DataError(f"image {number}: {one}")
        return found if is_several(images) else found[0]

    def evaluate(self, dataset: str = "", split: str = "") -> dict[str, Any]:
        """Exact evaluation: every example once.

        Args:
          dataset: as config.data.name; "": that of the config.
          split: "": its validation or test split; of the config's own data set config's.

        Returns:
          task, model, dataset, eval (split, num_examples, metrics and unreadable), and of named
          weights what is reported of them.

        Raises:
          DataError: for a data set that is missing, or a class that is none of the model's.
        """
        return evaluate_trained(self.trained, dataset, split)

    def _run(self, what: Any, parts: Iterator[np.ndarray]) -> Any:
        found = []
        for part in parts:
            size = 1 << (len(part) - 1).bit_length()  # so that few sizes are compiled
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
            out = jax.device_get(self._program(what)(self._on_device, filled))
            found.append(jax.tree.map(partial(_first, count=len(part)), out))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)

    @cached_property
    def _on_device(self) -> Any:
        return jax.device_put(self.variables)

    def _program(self, what: Any) -> Callable[[Any, np.ndarray], Any]:
        if what not in self._programs:
            self._programs[what] = self._compiled(what)
        return self._programs[what]

    def _compiled(self, what: Any) -> Callable[[Any, np.ndarray], Any]:
        task, model = self.trained.task, self.model
        if what == ():
            return head_inputs(self.trained)

        @jax.jit
        def outputs(variables: Any, pixels: jax.Array) -> Any:
            apply = partial(model.apply, variables, train=False)
            found = task.predict(apply, task.image_inputs(pixels))
            return task.shown(found) if what == "shown" else found

        @jax.jit
        def maps(variables: Any, pixels: jax.Array) -> Any:
            inputs = task.image_inputs(pixels)
            return model.apply(variables, inputs, False, list(what), method="features")

        return outputs if what in ("outputs", "shown") else maps


def _change(config: ml_collections.ConfigDict, fields: Mapping[str, Any] | None) -> None:
    name = config.model.name
    apply_fields(config, fields or {})
    if config.model.name != name:
        raise ConfigError(f"model.name = {config.model.name!r}: the weights are of {name}")
    validate(config)
    check_fields(config)


def _first(array: np.ndarray, count: int) -> np.ndarray:
    return array[:count]


def _parts(pixels: np.ndarray) -> Iterator[np.ndarray]:
    return (pixels[start : start + MOST] for start in range(0, len(pixels), MOST))

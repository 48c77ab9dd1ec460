"""Heat maps of what answers of a trained model depend on, by several methods."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.errors import ConfigError, DataError, did_you_mean
from imagenet_jax.inference.explanation.attention import attention_rollout
from imagenet_jax.inference.explanation.grad_cam import grad_cam, resized
from imagenet_jax.inference.explanation.gradients import integrated_gradients, smooth_grad
from imagenet_jax.inference.explanation.maps import Place, find_places, unrolled
from imagenet_jax.inference.explanation.methods import (
    ATTENTION_ROLLOUT,
    GRAD_CAM,
    INTEGRATED_GRADIENTS,
    OCCLUSION,
    SMOOTH_GRAD,
    STEPS,
    check_methods,
)
from imagenet_jax.inference.explanation.occlusion import occlusion
from imagenet_jax.inference.explanation.programs import Images, Program, Programs, parts
from imagenet_jax.inference.explanation.targets import (
    Chosen,
    Wanted,
    find_label,
    part_of,
    target_of,
)
from imagenet_jax.models.vit import ViT
from imagenet_jax.training.trained import TrainedModel

_FINEST = 4  # stride of the map that shows a part of an image; finer ones show edges
# Maps float32 [n, S, S], and of each image what else is known.
Found = tuple[np.ndarray, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What an answer depends on.

    Attributes:
      target: what is explained.
      score: of it.
      maps: by method, float32 [S, S], of the pixels that the network sees.
      facts: by method what else is known, of integrated gradients their completeness.
    """

    target: Chosen
    score: float
    maps: dict[str, np.ndarray]
    facts: dict[str, dict[str, Any]]


class Explainer:
    """Explains answers of a trained model, which are those without test-time augmentation.

    Attributes:
      name: of the model.
      target: what is explained of an answer.
      place: the map of Grad-CAM.
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        part: str = "",
        map_name: str = "",
        steps: int = STEPS,
    ):
        """Prepares; nothing is computed.

        Args:
          trained: the model.
          part: of several tasks the one whose answer it is; "": the first.
          map_name: of the backbone, for Grad-CAM; "": of a class the last one, of a box or a
            segment the finest one of a stride of 4 at least.
          steps: gradients of an image, of integrated gradients and SmoothGrad.

        Raises:
          ConfigError: for a part or a map that the model does not have.
        """
        self.name, self._steps = trained.name, steps
        task, take = part_of(trained.task, part)
        config = task.config.copy_and_resolve_references()
        config.eval.tta, config.eval.scales = "", (1.0,)
        self.target = target_of(dataclasses.replace(task, config=config))
        self._inputs = jax.jit(trained.task.image_inputs)
        model, size = unrolled(trained.model), config.data.image_size
        self._programs = Programs(model, trained.variables, self.target, take, size)
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        places = find_places(self._programs.outputs, trained.variables, image)
        self.place = _place(places, map_name, size / _FINEST if self.target.is_local else 0)

    def what(
        self, methods: Sequence[str] = (), of_class: str | int = "", box: int = 1
    ) -> tuple[list[str], Wanted]:
        """The methods and the target that are meant, see `explain`. Raises ConfigError."""
        names = self.target.task.class_names
        wanted = Wanted(None if of_class == "" else find_label(str(of_class), names), box)
        self.target.check(wanted)
        transformer, of_one = isinstance(self._programs.model, ViT), wanted != Wanted()
        if not methods:
            methods = [ATTENTION_ROLLOUT if transformer and not of_one else GRAD_CAM]
        found = check_methods(methods, of_class=of_one)
        if ATTENTION_ROLLOUT in found and not transformer:
            raise ConfigError(
                f"{ATTENTION_ROLLOUT} is for vision transformers that classify, and {self.name} is "
                "none"
            )
        return found, wanted

    def explain(
        self,
        pixels: np.ndarray,
        methods: Sequence[str] = (),
        *,
        of_class: str | int = "",
        box: int = 1,
    ) -> list[Explanation | DataError]:
        """Explains images.

        Args:
          pixels: uint8 [n, S, S, 3], as the network sees them before they are normalised.
          methods: of `methods.METHODS`; (): grad_cam, or attention_rollout of a vision transformer
            of which no class is asked for.
          of_class: the class that is explained, by its name or number; "": what the model says.
          box: which box of a detector, of that class if there is one, 1 being the best.

        Returns:
          Of each image an explanation, or that what is asked for is not in it.

        Raises:
          ConfigError: for a method or a class that the model does not have, or a box of what has
            none.
        """
        methods, wanted = self.what(methods, of_class, box)
        return self.explain_each(pixels, [wanted] * len(pixels), methods)

    def explain_each(
        self, pixels: np.ndarray, wanted: Sequence[Wanted], methods: Sequence[str]
    ) -> list[Explanation | DataError]:
        """As `explain`, of each image something else."""
        inputs = np.asarray(self._inputs(pixels))
        chosen = self._choose(inputs, wanted)
        there = [k for k, one in enumerate(chosen) if isinstance(one, Chosen)]
        explained: list[Any] = list(chosen)
        if not there:
            return explained
        arrays = {
            name: np.stack([chosen[k].arrays[name] for k in there])
            for name in chosen[there[0]].arrays
        }
        images = Images(self._programs, inputs[there], arrays)
        found = {name: self._makers[name](images) for name in methods}
        for place, k in enumerate(there):
            explained[k] = Explanation(
                chosen[k],
                float(images.scores[place]),
                {name: maps[place] for name, (maps, _) in found.items()},
                {name: facts[place] for name, (_, facts) in found.items()},
            )
        return explained

    def _choose(self, inputs: np.ndarray, wanted: Sequence[Wanted]) -> list[Chosen | DataError]:
        chosen: list[Chosen | DataError] = []
        for rows in parts(len(inputs), self._programs.rows):
            found = self._programs.run(self._programs.predictions, inputs[rows], {})
            for row, number in enumerate(rows):
                try:
                    one = jax.tree.map(lambda array, row=row: array[row], found)
                    chosen.append(self.target.choose(one, wanted[number]))
                except DataError as error:
                    chosen.append(error)
        return chosen

    @functools.cached_property
    def _makers(self) -> dict[str, Callable[[Images], Found]]:
        rollout = attention_rollout(self._programs, self.place.sides)
        return {
            GRAD_CAM: self._of_map(grad_cam(self._programs, self.place)),
            INTEGRATED_GRADIENTS: lambda images: integrated_gradients(images, self._steps),
            SMOOTH_GRAD: lambda images: smooth_grad(images, self._steps),
            OCCLUSION: occlusion,
            ATTENTION_ROLLOUT: self._of_map(rollout),
        }

    def _of_map(self, program: Program) -> Callable[[Images], Found]:
        """Of a program that gives maps [n, h, w]."""

        def make(images: Images) -> Found:
            facts = {"map": self.place.name, "sides": list(self.place.sides)}
            maps = resized(images.coarse(program), self._programs.size)
            return maps, [facts] * len(maps)

        return make


def _place(places: dict[str, Place], name: str, most: float) -> Place:
    """The map of this name; for "" the last one, or with `most` the last of the finest whose sides
    are no longer."""
    if name and name not in places:
        hint = did_you_mean(name, places)
        raise ConfigError(f"there is no map {name!r}; expected one of {', '.join(places)}{hint}")
    if name:
        return places[name]
    fine = [place for place in places.values() if max(place.sides) <= most]
    found = fine or list(places.values())[-1:]
    return max(reversed(found), key=lambda place: place.sides)

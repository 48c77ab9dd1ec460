"""The compiled programs of explanations, and many images through them, a few at once."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from imagenet_jax.inference.explanation.targets import Target

_ROWS, _SIDE = 16, 224  # images at once, of so many pixels each way; of larger ones fewer

# Of variables, normalised images [B, S, S, 3] and arrays of their targets [B, ...].
Program = Callable[[Any, Any, Any], Any]


class Programs:
    """What explanations compute of normalised images [B, S, S, 3].

    Attributes:
      model: the network, see `maps.unrolled`.
      target: what is explained of its outputs.
      take: what is the target's of these.
      size: S.
      rows: images at once.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        target: Target,
        take: Callable[[Any], Any],
        size: int,
    ):
        self.model, self.target, self.take, self.size = model, target, take, size
        self.rows = max(1, int(_ROWS * _SIDE**2 / max(size, _SIDE) ** 2))
        self._host_variables = variables

    @functools.cached_property
    def _variables(self) -> Any:
        return jax.device_put(self._host_variables)

    def outputs(self, variables: Any, inputs: jax.Array) -> Any:
        """Those of the network that are the target's; for use in programs."""
        return self.take(self.model.apply(variables, inputs, train=False))

    def scores(
        self, variables: Any, inputs: jax.Array, arrays: Any, *, moves: bool = True
    ) -> jax.Array:
        """Scores float32 [B], see `Target.score`; for use in programs."""
        return self.target.score(self.outputs(variables, inputs), arrays, moves=moves)

    @functools.cached_property
    def predictions(self) -> Program:
        """What the task makes of the outputs."""
        predict = self.target.task.predict

        @jax.jit
        def predictions(variables: Any, inputs: jax.Array, _: Any) -> Any:
            return predict(lambda images: self.outputs(variables, images), inputs)

        return predictions

    @functools.cached_property
    def score(self) -> Program:
        """The scores."""
        return jax.jit(self.scores)

    @functools.cached_property
    def gradient(self) -> Program:
        """The gradients [B, S, S, 3] of the scores."""
        return self._gradient(moves=True)

    @functools.cached_property
    def gradient_in_place(self) -> Program:
        """The same, boxes staying where they are."""
        return self._gradient(moves=False) if self.target.has_boxes else self.gradient

    def _gradient(self, moves: bool) -> Program:
        def total(inputs: jax.Array, variables: Any, arrays: Any) -> jax.Array:
            return self.scores(variables, inputs, arrays, moves=moves).sum()

        return jax.jit(lambda variables, inputs, arrays: jax.grad(total)(inputs, variables, arrays))

    def run(self, program: Program, inputs: np.ndarray, arrays: Any) -> Any:
        """What a program gives of at most `rows` images, in NumPy; they are filled up so that few
        sizes are compiled."""
        size = min(1 << (len(inputs) - 1).bit_length(), self.rows)
        rows = np.minimum(np.arange(size), len(inputs) - 1)
        filled = jax.tree.map(lambda array: array[rows], (inputs, arrays))
        out = jax.device_get(program(self._variables, *filled))
        return jax.tree.map(lambda array: array[: len(inputs)], out)


class Images:
    """Normalised images and their targets.

    Attributes:
      programs: of the network.
      inputs: float32 [n, S, S, 3].
      arrays: of the targets, [n, ...].
      scores: float32 [n].
    """

    def __init__(self, programs: Programs, inputs: np.ndarray, arrays: Mapping[str, np.ndarray]):
        self.programs, self.inputs, self.arrays = programs, inputs, arrays
        self.scores = self.scores_of(lambda image, step: inputs[image])[:, 0]

    def over(
        self, program: Program, image_of: Callable[[int, int], np.ndarray], steps: int = 1
    ) -> Iterator[tuple[int, int, Any]]:
        """A program's result of each step of each image: number of the image, step, result.

        Args:
          program: what is computed.
          image_of: makes a normalised image [S, S, 3], of the numbers of an image and a step.
          steps: how many for each image.
        """
        for rows in parts(len(self.inputs) * steps, self.programs.rows):
            pairs = [divmod(row, steps) for row in rows]
            made = np.stack([image_of(*pair) for pair in pairs])
            which = [image for image, _ in pairs]
            arrays = {name: array[which] for name, array in self.arrays.items()}
            found = self.programs.run(program, made, arrays)
            yield from ((*pair, one) for pair, one in zip(pairs, found, strict=True))

    def scores_of(self, image_of: Callable[[int, int], np.ndarray], steps: int = 1) -> np.ndarray:
        """The scores float32 [n, steps] of what is made of the images, see `over`."""
        scores = np.zeros((len(self.inputs), steps), np.float32)
        for image, step, score in self.over(self.programs.score, image_of, steps):
            scores[image, step] = score
        return scores

    def coarse(self, program: Program) -> np.ndarray:
        """What a program of the images themselves gives, [n, h, w]."""
        found = self.over(program, lambda image, step: self.inputs[image])
        return np.stack([one for _, _, one in found])


def parts(count: int, most: int) -> Iterator[range]:
    """The numbers below `count`, at most so many at once."""
    return (range(start, min(start + most, count)) for start in range(0, count, most))

"""Mean Teacher: the average of the weights says what an image shows in another view.

Tarvainen & Valpola 2017, https://arxiv.org/abs/1703.01780; the reference is
CuriousAI/mean-teacher.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.augment import train_image
from imagenet_jax.augment.views import own_key, side_by_side
from imagenet_jax.config.durations import steps_of
from imagenet_jax.data.names import known_size
from imagenet_jax.tasks.consistency_losses import sigmoid_ramp, squared_difference
from imagenet_jax.tasks.semi_supervised import Compared, PartlyKnown, SemiSupervised
from imagenet_jax.tasks.task import Batch, Outcome


@dataclasses.dataclass(frozen=True)
class MeanTeacher(SemiSupervised):
    """The student's and the teacher's probabilities of all images, with and without labels, are to
    be the same; the teacher is the average of the student's weights, config.ema_decay.

    Attributes:
      ramp_steps: config.semi.ramp_up in steps of this batch size.
    """

    ramp_steps: int = 0

    learns_from_average = True
    consistency_over = "examples"

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "MeanTeacher":
        made = super().of_split(config, split)
        if not split.train:
            return made
        return dataclasses.replace(made, ramp_steps=_ramp_steps(config, split.num_examples))

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "MeanTeacher":
        steps = _ramp_steps(config, known_size(config.data)[1])
        return dataclasses.replace(super().described(config), ramp_steps=steps)

    def two_views(self, batch: Batch, key: jax.Array) -> jax.Array:
        """The student's and the teacher's: one image, twice augmented by itself."""
        change = self.config.augment
        keys = key, own_key(key, 1)
        return side_by_side(*(train_image(batch, own, change) for own in keys))

    def factor(self, step: jax.Array) -> jax.Array:
        return sigmoid_ramp(step, self.ramp_steps)

    def losses(
        self,
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: jax.Array,
        targets: PartlyKnown,
    ) -> Outcome:
        """The student's alone, without a teacher."""
        logits, updated = apply(inputs[:, 0])
        numerators = self.supervised(logits, jax.tree.leaves(updated.get("auxiliary", {})), targets)
        return Outcome(numerators, Compared(logits, jnp.ones_like(targets.labelled)), updated)

    def losses_beside(
        self,
        average: Callable[[Any], Any],
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: jax.Array,
        targets: PartlyKnown,
    ) -> Outcome:
        outcome = self.losses(apply, inputs, targets)
        difference = squared_difference(outcome.outputs.logits, average(inputs[:, 1]))
        numerators = outcome.numerators | {"consistency": targets.factor * difference}
        return outcome._replace(numerators=numerators)


def _ramp_steps(config: ml_collections.ConfigDict, num_examples: int) -> int:
    sizes = {"batch_size": config.batch_size, "num_examples": num_examples}
    total = steps_of(config.duration, **sizes)
    return steps_of(config.semi.ramp_up, **sizes, total_steps=total)


TASK = MeanTeacher

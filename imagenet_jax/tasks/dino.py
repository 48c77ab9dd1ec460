"""DINO: the network says of all views what its average says of the whole ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from imagenet_jax.augment.crop_views import Views
from imagenet_jax.config.durations import steps_of
from imagenet_jax.data.names import known_size
from imagenet_jax.models.heads.projector import Projected
from imagenet_jax.tasks.self_supervised import Apply, Seen, WithTeacher
from imagenet_jax.tasks.task import Outcome
from imagenet_jax.tasks.view_losses import self_distillation


@dataclasses.dataclass(frozen=True)
class DINO(WithTeacher):
    """Caron et al. 2021, https://arxiv.org/abs/2104.14294.

    The centre of the teacher's scores is among the statistics of the norms, and is that of the
    batches of all devices; each micro-batch moves it.

    Attributes:
      num_examples: images of the training split, by which epochs are counted; 0: not in training.
    """

    num_examples: int = 0

    @classmethod
    def of_split(cls, config: ml_collections.ConfigDict, split: Any) -> "DINO":
        count = split.num_examples if split.train else 0
        return cls(config, tuple(split.source.class_names), count)

    @classmethod
    def described(cls, config: ml_collections.ConfigDict) -> "DINO":
        classes, examples = known_size(config.data)
        return cls(config, tuple(map(str, range(classes))), examples)

    def head(self) -> dict[str, Any]:
        how = self.config.pretrain
        return {"gelu": True, "prototypes": how.prototypes, "momentum": how.center_momentum}

    def losses_beside(
        self, average: Callable[[Any], Any], apply: Apply, inputs: Views, targets: Seen
    ) -> Outcome:
        scores = average(Views(inputs.whole)).scores
        frozen = targets.step < self._steps("freeze_prototypes")
        projected, updated = apply((inputs, scores, frozen))
        return Outcome({"loss": self.view_loss(projected, targets)}, projected, updated)

    def view_loss(self, projected: Projected, targets: Seen, teacher: Any = None) -> jax.Array:
        how, count = self.config.pretrain, targets.mask.shape[0]
        crops = self.config.data.crops
        whole, local = jnp.split(projected.scores, [count * crops])
        shares = [rows.reshape(count, -1, rows.shape[-1]) for rows in (whole, local) if rows.size]
        wanted = projected.centred.reshape(count, crops, -1)
        temperatures = how.temperature, self._teacher_temperature(targets.step)
        return self_distillation(jnp.concatenate(shares, 1), wanted, crops, *temperatures)

    def _teacher_temperature(self, step: jax.Array) -> jax.Array | float:
        how, warmup = self.config.pretrain, self._steps("teacher_warmup")
        if not warmup:
            return how.teacher_temperature
        first, last = how.teacher_temperature_start, how.teacher_temperature
        return first + (last - first) * jnp.minimum(step / warmup, 1)

    def _steps(self, name: str) -> int:
        """A duration of config.pretrain in steps."""
        sizes = {"batch_size": self.config.batch_size, "num_examples": self.num_examples}
        total = steps_of(self.config.duration, **sizes)
        return steps_of(self.config.pretrain[name], **sizes, total_steps=total)


TASK = DINO

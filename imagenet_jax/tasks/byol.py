"""BYOL: of one view is predicted what the average of the weights makes of the other."""

import dataclasses

import jax

from imagenet_jax.models.heads.embedder import normalised
from imagenet_jax.models.heads.projector import Projected
from imagenet_jax.tasks.self_supervised import Seen, WithTeacher
from imagenet_jax.tasks.view_losses import regression


@dataclasses.dataclass(frozen=True)
class BYOL(WithTeacher):
    """Grill et al. 2020, https://arxiv.org/abs/2006.07733; there are no negatives."""

    def view_loss(
        self, projected: Projected, targets: Seen, teacher: Projected | None = None
    ) -> jax.Array:
        return regression(normalised(projected.prediction), normalised(teacher.projection))


TASK = BYOL

"""SimSiam: as BYOL, with the network itself as the teacher."""

import dataclasses
from typing import Any

import jax

from imagenet_jax.models.heads.embedder import normalised
from imagenet_jax.models.heads.projector import Projected
from imagenet_jax.tasks.self_supervised import Seen, SelfSupervised
from imagenet_jax.tasks.view_losses import regression


@dataclasses.dataclass(frozen=True)
class SimSiam(SelfSupervised):
    """Chen & He 2020, https://arxiv.org/abs/2011.10566.

    The loss is the negative cosine, the mean over both views: a fourth of BYOL's, less 1.
    """

    def view_loss(self, projected: Projected, targets: Seen, teacher: Any = None) -> jax.Array:
        wanted = jax.lax.stop_gradient(normalised(projected.projection))
        return regression(normalised(projected.prediction), wanted) / 4 - 1


TASK = SimSiam

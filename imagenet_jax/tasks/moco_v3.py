"""MoCo v3: a view is found by its teacher's vector among those of the other images."""

import dataclasses

import jax

from imagenet_jax.models.heads.embedder import normalised
from imagenet_jax.models.heads.projector import Projected
from imagenet_jax.tasks.self_supervised import Seen, WithTeacher
from imagenet_jax.tasks.view_losses import contrastive


@dataclasses.dataclass(frozen=True)
class MoCoV3(WithTeacher):
    """Chen et al. 2021, https://arxiv.org/abs/2104.02057; keys are those of all devices."""

    def view_loss(
        self, projected: Projected, targets: Seen, teacher: Projected | None = None
    ) -> jax.Array:
        keys, there = self.gathered((normalised(teacher.projection), targets.mask))
        queries = normalised(projected.prediction)
        places = self.places(targets.mask.shape[0])
        return contrastive(queries, keys, places, there, self.config.pretrain.temperature)


TASK = MoCoV3

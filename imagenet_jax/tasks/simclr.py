"""SimCLR: two views of an image are found among all views of the batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from imagenet_jax.models.heads.embedder import normalised
from imagenet_jax.models.heads.projector import Projected
from imagenet_jax.tasks.self_supervised import Seen, SelfSupervised
from imagenet_jax.tasks.view_losses import nt_xent


@dataclasses.dataclass(frozen=True)
class SimCLR(SelfSupervised):
    """Chen et al. 2020, https://arxiv.org/abs/2002.05709; negatives are those of all devices."""

    def view_loss(self, projected: Projected, targets: Seen, teacher: Any = None) -> jax.Array:
        vectors = normalised(projected.projection)
        others = self.gathered((vectors, jnp.repeat(targets.mask, 2)))
        places = self.places(vectors.shape[0])
        return nt_xent(vectors, others[0], places, others[1], self.config.pretrain.temperature)


TASK = SimCLR

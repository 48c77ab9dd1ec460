"""What detectors of one stage have in common: a head of all maps, the focal loss of classes."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from imagenet_jax.models.detection.matching import IGNORED, of_matched
from imagenet_jax.models.detection.method import Outputs
from imagenet_jax.models.detection.suppression import SuppressesLast
from imagenet_jax.models.layers.layers import Layers


@dataclasses.dataclass(frozen=True)
class OneStage(SuppressesLast):
    """A method whose boxes are what its head says."""

    @abc.abstractmethod
    def head(self, layers: Layers) -> nn.Module:
        """What makes the outputs of the maps of the pyramid: head(maps, train) -> Outputs."""

    def outputs(
        self,
        maps: Sequence[jax.Array],
        layers: Layers,
        train: bool,
        size: int,
        targets: Mapping[str, jax.Array] | None,
    ) -> Outputs:
        del size, targets
        return self.head(layers)(maps, train)

    def focal_loss(self, logits: jax.Array, classes: jax.Array, matched: jax.Array) -> jax.Array:
        """Focal loss (Lin et al. 2017) of logits [B, A, K], the sum over anchors and classes [B].

        Args:
          logits: of each anchor and class.
          classes: of the objects, int32 [B, M].
          matched: see `matched`; anchors that are ignored count for nothing.
        """
        which = jnp.where(matched >= 0, of_matched(classes, matched), self.num_classes)
        targets = jax.nn.one_hot(which, self.num_classes, dtype=logits.dtype)
        loss = optax.sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
        return jnp.where((matched != IGNORED)[..., None], loss, 0).sum((1, 2))

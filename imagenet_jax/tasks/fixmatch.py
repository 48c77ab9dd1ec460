"""FixMatch: what is clear of an image is learnt from it changed a lot.

Sohn et al. 2020, https://arxiv.org/abs/2001.07685; the reference is google-research/fixmatch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from imagenet_jax.augment import train_image
from imagenet_jax.augment.views import own_key, side_by_side, view_of, weak
from imagenet_jax.tasks.consistency_losses import pseudo_label_loss
from imagenet_jax.tasks.semi_supervised import VIEWS, Compared, PartlyKnown, SemiSupervised
from imagenet_jax.tasks.task import Batch, Outcome


@dataclasses.dataclass(frozen=True)
class FixMatch(SemiSupervised):
    """Images without labels get the class that their weak view shows with a probability of
    config.semi.threshold; their strong view learns it.

    The sum is divided by all images without labels of the batch, as in the reference. Labels are
    compared with weak views. One pass of the network has both views of all images, those with
    labels too, whose strong view counts in BatchNorm alone (the reference leaves it out).
    """

    consistency_over = "unlabelled"
    train_metrics = ("loss", "top1", "consistency", "mask_rate")
    formats: ClassVar = {**SemiSupervised.formats, "train/mask_rate": "clear {:.0%}"}

    def two_views(self, batch: Batch, key: jax.Array) -> jax.Array:
        """The image, mirrored and moved; the one of the host's policy, with all of config.augment,
        mirrored and moved by itself."""
        change = self.config.augment
        first = train_image(view_of(batch, 0, VIEWS), key, weak(change))
        second = train_image(view_of(batch, 1, VIEWS), own_key(key, 1), change)
        return side_by_side(first, second)

    def losses(
        self,
        apply: Callable[..., tuple[Any, dict[str, Any]]],
        inputs: jax.Array,
        targets: PartlyKnown,
    ) -> Outcome:
        outputs, updated = apply(inputs.reshape(-1, *inputs.shape[2:]))

        def of_view(number: int, outputs: jax.Array) -> jax.Array:
            return outputs.reshape(-1, VIEWS, outputs.shape[-1])[:, number]

        weak_logits, strong_logits = (of_view(number, outputs) for number in range(VIEWS))
        heads = [of_view(0, head) for head in jax.tree.leaves(updated.get("auxiliary", {}))]
        loss, confident = pseudo_label_loss(weak_logits, strong_logits, self.config.semi.threshold)
        numerators = self.supervised(weak_logits, heads, targets)
        numerators["consistency"] = targets.factor * jnp.where(targets.labelled, 0, loss)
        return Outcome(numerators, Compared(weak_logits, ~targets.labelled, confident), updated)


TASK = FixMatch

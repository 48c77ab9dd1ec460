"""What tasks share that compare views of an image: SimCLR, BYOL, SimSiam, MoCo v3, DINO."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.augment.crop_views import Views, train_crops
from imagenet_jax.devices.parallel import gather_rows, row_numbers
from imagenet_jax.models.heads.projector import Projected, create_projecting
from imagenet_jax.tasks.classes import network_options
from imagenet_jax.tasks.pretraining import Pretraining
from imagenet_jax.tasks.self_supervised_checks import check_views
from imagenet_jax.tasks.task import Batch, Outcome, Sums, Term

Apply = Callable[..., tuple[Projected, dict[str, Any]]]


class Seen(NamedTuple):
    """What training knows of the images beside their views.

    Attributes:
      mask: which could be read, bool [b].
      step: number of the step, int32 [].
    """

    mask: jax.Array
    step: jax.Array


@dataclasses.dataclass(frozen=True)
class SelfSupervised(Pretraining):
    """Views of an image are to be near each other, and none of it is told what the image is."""

    def model(self, devices: int = 1) -> nn.Module:
        """The backbone config.model.name, a projector, and what else the method has.

        Raises:
          ConfigError: for fields that contradict each other.
        """
        check_views(self.config)
        how = self.config.pretrain
        widths = (*[how.hidden] * (how.layers - 1), how.size)
        options = network_options(self.config, devices)
        predictor = {"predictor": how.predictor, "predictor_norm": how.predictor_norm}
        head = {"norm": how.norm} | predictor | self.head()
        return create_projecting(self.config.model.name, widths=widths, head=head, **options)

    def head(self) -> dict[str, Any]:
        """Attributes of `Projecting` that the method sets."""
        return {}

    def training_inputs(self, batch: Batch, key: jax.Array, step: jax.Array) -> tuple[Views, Seen]:
        return train_crops(batch, key, self.config), Seen(batch["mask"], step)

    def seen(self, inputs: Views, targets: Seen) -> tuple[np.ndarray, list[str]]:
        """The whole views, each with the number of its image."""
        images, _ = super().seen(inputs.whole, targets)
        count = self.config.data.crops
        return images, [f"{row // count}, view {row % count}" for row in range(len(images))]

    def terms(self) -> dict[str, Term]:
        return {"loss": Term(1.0, "examples")}

    def denominators(self, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        """Images that could be read."""
        return {"examples": batch["mask"].sum()}

    def losses(self, apply: Apply, inputs: Views, targets: Seen) -> Outcome:
        projected, updated = apply(inputs)
        return Outcome({"loss": self.view_loss(projected, targets)}, projected, updated)

    @abc.abstractmethod
    def view_loss(self, projected: Projected, targets: Seen, teacher: Any = None) -> jax.Array:
        """Of the images, float32 [b].

        Args:
          projected: of all views.
          targets: of `training_inputs`.
          teacher: what the averaged weights made of the whole views, where there are some.
        """

    def gathered(self, rows: Any) -> Any:
        """Rows of the global batch, of those of this device; see `parallel.gather_rows`."""
        return gather_rows(rows, self.axis_name)

    def places(self, count: int) -> jax.Array:
        """Which rows of the global batch the `count` ones of this device are."""
        return row_numbers(count, self.axis_name)

    def sums(self, outcome: Outcome, targets: Seen, mask: jax.Array) -> Sums:
        """count, loss, and feature_std of the projections of first views."""
        whole = outcome.outputs.projection[: self.config.data.crops * mask.shape[0]]
        return {
            "count": mask.sum(dtype=jnp.int32),
            "loss": jnp.where(mask, outcome.numerators["loss"], 0).sum(),
            "feature_std": self.feature_std_sum(whole[:: self.config.data.crops], mask),
        }


@dataclasses.dataclass(frozen=True)
class WithTeacher(SelfSupervised):
    """One that learns what the average of its own weights makes of another view."""

    learns_from_average = True

    def losses_beside(
        self, average: Callable[[Any], Any], apply: Apply, inputs: Views, targets: Seen
    ) -> Outcome:
        teacher = average(Views(inputs.whole))
        projected, updated = apply(inputs)
        loss = self.view_loss(projected, targets, teacher)
        return Outcome({"loss": loss}, projected, updated)

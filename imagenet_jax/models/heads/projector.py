"""Networks that learn without labels: a backbone, and what is thrown away after that."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.augment.crop_views import Views
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.heads.embedder import normalised
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.table import create_model

PROJECTOR, PREDICTOR, PROTOTYPES, CENTRE = "projector", "predictor", "prototypes", "centre"
OWN = (PROJECTOR, PREDICTOR, PROTOTYPES, CENTRE)  # modules that a classifier does not have


class Projected(NamedTuple):
    """What a network makes of `Views` in training; rows are those of whole, then of local.

    Attributes:
      projection: float32 [R, D].
      prediction: float32 [R, D], with a predictor; else None.
      scores: of prototypes, float32 [R, K], with some; else None.
      centred: the teacher's scores less their centre, float32, where they are given; else None.
    """

    projection: jax.Array
    prediction: jax.Array | None = None
    scores: jax.Array | None = None
    centred: jax.Array | None = None


class Perceptron(nn.Module):
    """Linear layers with an activation between them.

    Attributes:
      widths: outputs of each.
      norm: which of them have a BatchNorm instead of a bias: "none", "hidden" (all but the last)
        or "all".
      gelu: whether the activation is GELU; else ReLU.
      layers: of the backbone.
    """

    widths: tuple[int, ...]
    norm: str
    gelu: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """float32 [R, widths[-1]] of x [R, C]."""
        last = len(self.widths) - 1
        torch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        init = nn.initializers.normal(0.02) if self.gelu else torch_init  # DINO's
        for number, width in enumerate(self.widths):
            is_normalised = self.norm == "all" or (self.norm == "hidden" and number < last)
            bias = not is_normalised
            x = self.layers.dense(width, name=f"{number}", bias=bias, init=init)(x)
            if is_normalised:
                x = self.layers.norm(name=f"{number}.norm")(x, train)
            if number < last:
                x = self.layers.gelu(x) if self.gelu else nn.relu(x)
        return x.astype(jnp.float32)


class Prototypes(nn.Module):
    """DINO's last layer: cosines with `count` directions."""

    count: int

    @nn.compact
    def __call__(self, x: jax.Array, frozen: jax.Array | bool = False) -> jax.Array:
        """float32 [R, count] of x [R, D]; `frozen`: no gradient reaches the directions."""
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's
        kernel = self.param("kernel", init, (x.shape[-1], self.count), jnp.float32)
        kernel = jnp.where(frozen, jax.lax.stop_gradient(kernel), kernel)
        return normalised(x) @ normalised(kernel, 0)


class Projecting(nn.Module):
    """A backbone with a projector, and maybe a predictor or prototypes.

    Its parameters have the paths that they have in the classifier, and those of the others are
    beside them. Features are what the classifier's last layer would see.

    Attributes:
      backbone: a model of the table, of no classes.
      widths: of the projector.
      norm: see `Perceptron`.
      gelu: activation of the projector.
      predictor: width of the hidden layer of a predictor; 0: none.
      predictor_norm: as `norm`, of the predictor.
      prototypes: how many; 0: none.
      momentum: of the centre of the teacher's scores, see `centred`.
    """

    backbone: Backbone
    widths: tuple[int, ...]
    norm: str = "hidden"
    gelu: bool = False
    predictor: int = 0
    predictor_norm: str = "hidden"
    prototypes: int = 0
    momentum: float = 0.9

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)
        layers = self.layers
        self.project = Perceptron(self.widths, self.norm, self.gelu, layers, name=PROJECTOR)
        if self.predictor:
            widths = (self.predictor, self.widths[-1])
            self.predict = Perceptron(
                widths, self.predictor_norm, self.gelu, layers, name=PREDICTOR
            )
        if self.prototypes:
            self.scores = Prototypes(self.prototypes, name=PROTOTYPES)
            zeros = nn.initializers.zeros
            self.centre = self.variable(
                "batch_stats", CENTRE, zeros, None, (self.prototypes,), jnp.float32
            )

    @property
    def layers(self) -> Layers:
        """Of the backbone."""
        return self.backbone.layers

    @property
    def heads(self) -> int | None:
        """Those of a transformer's attention."""
        return getattr(self.backbone, "heads", None)

    def __call__(self, inputs: Any, train: bool) -> jax.Array | Projected:
        """Features float32 [B, C] of images float32 [B, S, S, 3]; of `Views` what is `Projected`.

        Views may come as (views, teacher's scores [B * V, K] or None, whether prototypes are
        frozen): with scores their centre moves towards the mean of these, of all rows, as the
        statistics of BatchNorm do.
        """
        if not isinstance(inputs, tuple):
            features = self.backbone(inputs, train)
            if self.is_initializing():
                self._projected(features, train, None, False)
            return features
        views, scores, frozen = inputs if not isinstance(inputs, Views) else (inputs, None, False)
        features = self.backbone(views.whole, train)
        if views.local is not None:
            features = jnp.concatenate([features, self.backbone(views.local, train)])
        return self._projected(features, train, scores, frozen)

    def features(self, image: jax.Array, train: bool, names: Sequence[str]) -> dict[str, jax.Array]:
        """As `Backbone.features`."""
        return self.backbone.features(image, train, names)

    def _projected(
        self, features: jax.Array, train: bool, teacher: jax.Array | None, frozen: jax.Array | bool
    ) -> Projected:
        z = self.project(features.astype(self.layers.dtype), train)
        prediction = self.predict(z.astype(self.layers.dtype), train) if self.predictor else None
        if not self.prototypes:
            return Projected(z, prediction)
        centred = None
        if teacher is not None:
            centred = teacher - self.centre.value[None]
            if self.is_mutable_collection("batch_stats"):
                moved = (1 - self.momentum) * teacher.mean(0)
                self.centre.value = self.momentum * self.centre.value + moved
        return Projected(z, prediction, self.scores(z, frozen), centred)


def create_projecting(
    name: str, *, widths: Sequence[int], head: dict[str, Any], **options: Any
) -> Projecting:
    """A Linen module, e.g. `create_projecting("resnet50", widths=(2048, 128), head={})`.

    Args:
      name: of the backbone, in the table of models.
      widths: outputs of the layers of the projector.
      head: what else `Projecting` has.
      **options: of the backbone, see `create_model`.

    Raises:
      ConfigError: for a name or an option that does not exist.
    """
    return Projecting(features_of(name, **options), tuple(widths), **head)


def features_of(name: str, **options: Any) -> Backbone:
    """A model of the table that gives the features [B, C] which its last layer sees.

    Raises:
      ConfigError: for a name or an option that does not exist, or a model without such a layer.
    """
    options.pop("head_std", None)
    backbone = create_model(name, num_classes=0, **options)
    if name.startswith(("squeezenet", "airbench")) or getattr(backbone, "distilled", False):
        raise ConfigError(
            f"config.model.name = {name!r} has no one linear layer at its end, whose inputs would "
            "be the features; take another model"
        )
    return backbone

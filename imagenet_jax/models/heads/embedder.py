"""Networks that give an image a point on the unit sphere, and classes a direction each."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.table import create_model

CLASS_WEIGHTS = "class_weights"


def normalised(vectors: jax.Array, axis: int = -1) -> jax.Array:
    """Vectors of length 1 in float32; zeros stay zeros, with gradients that are finite."""
    vectors = vectors.astype(jnp.float32)
    squares = jnp.square(vectors).sum(axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


class ClassWeights(nn.Module):
    """A direction for each class; the array [D, K] may be spread over devices by classes.

    Attributes:
      classes: K.
    """

    classes: int

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        """Cosines float32 [B, K] of embeddings [B, D] of length 1 with each class."""
        # Directions are of a length of about 1, so that a step turns them as much whatever D is.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        shape = embedding.shape[-1], self.classes
        kernel = self.param("kernel", init, shape, jnp.float32)
        return embedding @ normalised(kernel, 0)


class Embedder(nn.Module):
    """Embeddings of length 1: what a classifier's last layer gives, divided by its length.

    Its parameters have the paths that they have in the classifier. Those of `ClassWeights` are
    beside them; the cosines are sown as "auxiliary" where that collection is asked for, in
    training, and are not computed otherwise.

    Attributes:
      backbone: a model of the table, whose num_classes is D, the size of the embedding.
      classes: K, of which there are directions; 0: none.
      norm: whether there is a BatchNorm behind the last layer, as in ArcFace. Without it embeddings
        begin near each other, since what a ReLU gives has no other side.
    """

    backbone: Backbone
    classes: int = 0
    norm: bool = True

    # Zeros, with which heads start elsewhere, have no direction.
    keeps_initial_head = True

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)
        if self.norm:
            self.centred = self.backbone.embedding_norm()
        if self.classes:
            self.directions = ClassWeights(self.classes, name=CLASS_WEIGHTS)

    @property
    def layers(self) -> Layers:
        """Of the backbone."""
        return self.backbone.layers

    @property
    def heads(self) -> int | None:
        """Those of a transformer's attention."""
        return getattr(self.backbone, "heads", None)

    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Embeddings float32 [B, D] of images [B, H, W, 3], float32 and normalised."""
        embedding = self.backbone(image, train)
        if self.norm:
            embedding = self.centred(embedding, train)
        embedding = normalised(embedding)
        if self.classes and (self.is_initializing() or self.is_mutable_collection("auxiliary")):
            self.sow("auxiliary", "cosines", self.directions(embedding))
        return embedding

    def features(self, image: jax.Array, train: bool, names: Sequence[str]) -> dict[str, jax.Array]:
        """As `Backbone.features`."""
        return self.backbone.features(image, train, names)


def own_modules(network: Any) -> tuple[str, ...]:
    """Names of the modules that an embedder has and its backbone, as a classifier, does not."""
    norms = (network.norm_name,) if isinstance(network, Backbone) else ()
    return CLASS_WEIGHTS, *norms


def create_embedder(
    name: str, *, size: int, classes: int = 0, norm: bool = True, **options: Any
) -> Embedder:
    """A Linen module, e.g. `create_embedder("resnet50", size=512, classes=10_000)`.

    Args:
      name: of the backbone, in the table of models.
      size: numbers of an embedding.
      classes: that get a direction each, for losses that compare with those; 0: none.
      norm: whether there is a BatchNorm behind the last layer.
      **options: of the backbone, see `create_model`.

    Raises:
      ConfigError: for a name or an option that does not exist.
    """
    options = {"head_std": 0.02} | options  # some heads would start at zero, which has no direction
    return Embedder(create_model(name, num_classes=size, **options), classes, norm)

"""Several heads on the maps of one backbone, each of which is computed once."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.layers import Layers


class MapsOfImage(NamedTuple):
    """Images with their maps, in place of images alone."""

    image: jax.Array
    maps: Mapping[str, jax.Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images."""
        return self.image.shape


class GivenMaps(nn.Module):
    """Stands for a backbone whose maps are there already."""

    def features(
        self, image: MapsOfImage, train: bool, names: Sequence[str]
    ) -> dict[str, jax.Array]:
        """As `Backbone.features`."""
        del train
        return {name: image.maps[name] for name in names}


class PooledClassifier(nn.Module):
    """Logits float32 [B, num_classes] of the mean of a map."""

    num_classes: int
    names: tuple[str]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: MapsOfImage, train: bool) -> jax.Array:
        del train
        (name,) = self.names
        return self.layers.head(self.num_classes, name="classifier")(
            global_avg_pool(image.maps[name])
        )


@dataclasses.dataclass(frozen=True)
class Head:
    """A head, whose backbone is `GivenMaps`, what it is called, and the maps that it needs."""

    name: str
    module: nn.Module
    maps: tuple[str, ...]


class SharedBackbone(nn.Module):
    """One backbone, several heads.

    Attributes:
      backbone: makes the maps.
      heads: on them.
      learned: whether there is a logarithm of a variance for each head (Kendall et al. 2018).
    """

    backbone: Backbone
    heads: tuple[Head, ...]
    learned: bool = False

    keeps_initial_head = True

    @nn.compact
    def __call__(
        self, inputs: jax.Array | Mapping[str, Any], train: bool
    ) -> tuple[dict[str, Any], dict[str, jax.Array]]:
        """The outputs of each head by its name, and its logarithm of a variance float32 [].

        Args:
          inputs: images [B, H, W, 3], float32 and normalised; or these as "image", with what heads
            need beside them by their names.
          train: whether dropout and BatchNorm are in training mode.
        """
        alone = hasattr(inputs, "shape")
        image = inputs if alone else inputs["image"]
        names = tuple(dict.fromkeys(name for head in self.heads for name in head.maps))
        given = MapsOfImage(image, self.backbone.features(image, train, names))
        outputs, variances = {}, {}
        for head in self.heads:
            more = {} if alone else inputs.get(head.name, {})
            module = head.module.clone(parent=self, name=head.name)
            outputs[head.name] = module({"image": given, **more} if more else given, train)
            variances[head.name] = jnp.zeros(())
            if self.learned:
                name = f"log_variance_{head.name}"
                variances[head.name] = self.param(name, nn.initializers.zeros, (), jnp.float32)
        return outputs, variances

"""What the families have in common: a forward pass that tells its maps by name.

A classifier takes the logits, a detector or a segmenter the maps that it asks for; parameters and
their paths are the same.
"""

from collections.abc import Container, Generator, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.errors import ConfigError, did_you_mean
from imagenet_jax.models.layers.norm import BatchNorm
from imagenet_jax.models.layers.platforms import PLAIN, lowering_for

# (name, map [B, h, w, C]) in the order of computation, then the logits float32 [B, num_classes].
Maps = Generator[tuple[str, jax.Array], None, jax.Array]


class Level(NamedTuple):
    """A map of the pyramid, as in timm's feature_info.

    Attributes:
      name: by which `Backbone.features` gives it.
      stride: height and width of the image over those of the map.
      channels: of the map.
    """

    name: str
    stride: int
    channels: int


class _AllNames:
    """The names of all maps that a model has."""

    def __contains__(self, name: object) -> bool:
        return True


ALL = _AllNames()
_SIDES = 448, 896  # of two images; patches of 8, 14, 16 and 32 pixels divide both


class Backbone(nn.Module):
    """A network for images [B, H, W, 3] that has named maps on the way to its logits.

    Attributes:
      norm_name: of the module that `embedding_norm` makes.
    """

    norm_name: ClassVar[str] = "embedding_norm"

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """The forward pass: yields each map with its name, and returns the logits.

        It runs as far as its maps are asked for, and what it has not run has no parameters.

        Args:
          image: [B, H, W, 3], float32 and normalised.
          train: whether dropout and BatchNorm are in training mode.
          names: maps that are asked for; none: the logits are.
        """
        raise NotImplementedError

    @nn.compact
    def __call__(
        self, image: jax.Array, train: bool, names: Sequence[str] | _AllNames = ()
    ) -> jax.Array | dict[str, jax.Array] | tuple[jax.Array, dict[str, jax.Array]]:
        """Logits float32 [B, num_classes]; with `names`, see `features`; with ALL, both."""
        found, maps = {}, self.maps(image, train, names)
        try:
            while not names or names is ALL or len(found) < len(names):
                name, x = next(maps)
                if name in names:
                    found[name] = x
        except StopIteration as end:
            if not names:
                return end.value
            if names is ALL:
                return end.value, found
            raise ValueError(self._unknown(names, image)) from None
        return found

    def features(self, image: jax.Array, train: bool, names: Sequence[str]) -> dict[str, jax.Array]:
        """{name: map [B, h, w, C]} of the dtype of the computation, up to the last asked for.

        Args:
          image: [B, H, W, 3], float32 and normalised.
          train: whether dropout and BatchNorm are in training mode.
          names: of maps, e.g. those of `table.levels`.

        Raises:
          ValueError: for a map that the model does not have.
        """
        names = tuple(dict.fromkeys(names))
        found = self(image, train, names) if names else {}
        return {name: found[name] for name in names}

    @nn.nowrap
    def embedding_norm(self) -> BatchNorm:
        """What `heads.embedder` puts behind a last layer that gives an embedding."""
        return self.layers.norm(name=self.norm_name)

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """The maps that make the pyramid: the last one of each stride."""
        return list({level.stride: level for level in maps}.values())

    @nn.nowrap
    def _unknown(self, names: Sequence[str], image: jax.Array) -> str:
        """What to say of names of which some do not exist."""
        known = list(_map_shapes(self.clone(parent=None), image.shape[1:]))
        unknown = [name for name in names if name not in known]
        hints = [f"; there is no {name!r}{did_you_mean(name, known)}" for name in unknown]
        return f"the maps of {type(self).__name__} are {', '.join(known)}{''.join(hints)}"


def find_levels(model: Backbone) -> tuple[Level, ...]:
    """The pyramid of a model that has no parent, found without computing anything."""
    small, large = (_map_shapes(model, (side, side, 3)) for side in _SIDES)
    maps = [
        # By the difference: what padding and rounding add is the same for both.
        Level(name, (_SIDES[1] - _SIDES[0]) // (large[name][1] - rows), channels)
        for name, (_, rows, _, channels) in small.items()
    ]
    return tuple(model.levels_among(maps))


def _map_shapes(model: Backbone, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of all maps of an image [H, W, 3], in the order of computation."""
    image, names = jax.ShapeDtypeStruct((1, *shape), jnp.float32), []

    def run(image: jax.Array) -> list[jax.Array]:
        (_, maps), _ = model.init_with_output(jax.random.key(0), image, train=False, names=ALL)
        names.extend(maps)  # which JAX would sort
        return list(maps.values())

    with lowering_for(PLAIN):
        shapes = jax.eval_shape(run, image)
    return {name: array.shape for name, array in zip(names, shapes, strict=True)}


def check_output_stride(value: int, possible: Sequence[int]) -> None:
    """Raises ConfigError unless a model can have this stride of the last map."""
    if value not in possible:
        expected = " or ".join(map(str, possible))
        raise ConfigError(
            f"output_stride = {value} is not possible for this model; expected {expected}"
        )

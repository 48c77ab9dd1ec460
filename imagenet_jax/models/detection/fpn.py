"""Feature pyramids (Lin et al. 2017, https://arxiv.org/abs/1612.03144), as torchvision's."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.resize import nearest_double

_kernels = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class FPN(nn.Module):
    """Maps of one width: coarse ones are added to finer ones.

    Attributes:
      features: channels of each map.
      extra: names of further, coarser maps, each half as large as the one before.
        "pool": every other row and column of the one before.
      norm: whether there are batch norms behind the convolutions.
      bottom_up: add finer maps to coarser ones after that (PANet, Liu et al. 2018,
        https://arxiv.org/abs/1803.01534).
      extra_from_last: make the first of these from the last map of the backbone, not of the
        pyramid.
      layers: see `layers.Layers`.
    """

    features: int = 256
    extra: Sequence[str] = ()
    extra_from_last: bool = False
    norm: bool = False
    bottom_up: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> list[jax.Array]:
        """Maps [B, h, w, features], from fine to coarse, of those of a backbone."""

        def conv(kernel: int, name: str, stride: int = 1) -> nn.Conv:
            how = {"bias": True, "init": _kernels, "name": name}
            return self.layers.conv(self.features, kernel, stride, **how)

        def block(kernel: int, name: str, x: jax.Array) -> jax.Array:
            if not self.norm:
                return conv(kernel, f"{name}.0")(x)
            x = self.layers.conv(self.features, kernel, init=_kernels, name=f"{name}.0")(x)
            return self.layers.norm(name=f"{name}.1")(x, train)

        found: list[jax.Array] = []
        above = None  # what is added to the next finer map
        for number in reversed(range(len(maps))):
            inner = block(1, f"inner_blocks.{number}", maps[number])
            if above is not None:
                same = above.shape == inner.shape
                inner += above if same else nearest_double(above, inner.shape[1:3])
            found.insert(0, block(3, f"layer_blocks.{number}", inner))
            above = inner
        for number in range(1, len(found) if self.bottom_up else 0):
            stride = 1 if found[number].shape == found[number - 1].shape else 2
            down = conv(3, f"down_blocks.{number}.0", stride=stride)(found[number - 1])
            both = nn.relu(down)[:, : found[number].shape[1], : found[number].shape[2]]
            block_name = f"pan_blocks.{number}.0"
            found[number] = nn.relu(conv(3, block_name)(both + found[number]))
        x = maps[-1] if self.extra_from_last else found[-1]
        for number, name in enumerate(self.extra):
            if name == "pool":
                x = x[:, ::2, ::2]
            else:
                x = conv(3, f"extra_blocks.{name}", stride=2)(nn.relu(x) if number else x)
            found.append(x)
        return found


class BackboneWithFPN(nn.Module):
    """A backbone of the table and the pyramid of some of its maps.

    Attributes:
      body: the backbone.
      names: its maps, from fine to coarse.
      fpn: makes the pyramid of them.
    """

    body: Backbone
    names: tuple[str, ...]
    fpn: FPN

    def __call__(self, image: jax.Array, train: bool) -> list[jax.Array]:
        """The pyramid of images [B, H, W, 3], float32 and normalised."""
        maps = self.body.features(image, train, self.names)
        return self.fpn([maps[name] for name in self.names], train)

"""The decoder of U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597).

On any backbone, with the shapes and the names of segmentation_models_pytorch.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.resize import nearest_double

_kernels = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


class _Block(nn.Module):
    """Twice as large, beside the map of that size if there is one, and two 3x3 convolutions."""

    features: int
    layers: Layers

    @nn.compact
    def __call__(
        self, x: jax.Array, skip: jax.Array | None, sides: Sequence[int], train: bool
    ) -> jax.Array:
        x = nearest_double(x, sides)
        if skip is not None:
            x = jnp.concatenate([x, skip], -1)
        for name in ("conv1", "conv2"):
            x = self.layers.conv(self.features, 3, init=_kernels, name=f"{name}.0")(x)
            x = nn.relu(self.layers.norm(name=f"{name}.1")(x, train))
        return x


class UNet(nn.Module):
    """From the coarsest map back to the size of the image.

    Attributes:
      num_classes: number of logits.
      sides: height and width of the image.
      features: channels of the blocks, of which the last ones are used where the coarsest map needs
        fewer; no more than half of those of the map before, but 16.
      layers: see `layers.Layers`.
    """

    num_classes: int
    sides: tuple[int, int]
    features: Sequence[int] = (256, 128, 64, 32, 16)
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        """Logits [B, H, W, num_classes] of the image's size, from maps of halves of it."""
        x, steps = maps[-1], self._steps(maps)
        channels = self.features[len(self.features) - len(steps) :]
        for number, (features, (skip, sides)) in enumerate(zip(channels, steps, strict=True)):
            features = min(features, max(16, x.shape[-1] // 2))
            x = _Block(features, self.layers, name=f"blocks.{number}")(x, skip, sides, train)
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        name = "segmentation_head.0"
        return self.layers.conv(self.num_classes, 3, bias=True, init=init, name=name)(x)

    def _steps(self, maps: Sequence[jax.Array]) -> list[tuple[jax.Array | None, tuple[int, int]]]:
        """For each block the map beside it, if there is one of that size, and its size."""
        *skips, x = maps
        sides, steps = x.shape[1:3], []
        while sides != tuple(self.sides):
            double = (2 * sides[0], 2 * sides[1])
            if skips and skips[-1].shape[1] <= double[0]:
                skip = skips.pop()
                sides = skip.shape[1:3]
            else:
                skip = None
                sides = tuple(map(min, double, self.sides))
            steps.append((skip, sides))
        return steps

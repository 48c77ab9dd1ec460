"""The maps of SSD and SSDLite: two of a backbone, and four that are made of the last one."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.backbone import Backbone
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool
from imagenet_jax.models.layers.platforms import relu6
from imagenet_jax.models.mobilenet import conv_norm_act

_SCALE = 20.0  # initial, of the first map's values
_EPSILON = 1e-12  # torch's normalize
_xavier = nn.initializers.xavier_uniform()
_normal = nn.initializers.normal(0.03)
# Channels between and after, stride and padding of the last convolution.
_EXTRA = ((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))


class SSDMaps(nn.Module):
    """SSD300's maps of images [B, S, S, 3].

    Attributes:
      body: the backbone.
      names: its two maps.
      layers: see `layers.Layers`.
    """

    body: Backbone
    names: tuple[str, str]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> list[jax.Array]:
        """Six maps, from fine to coarse."""
        first, x = self.body.features(image, train, self.names).values()
        init = nn.initializers.constant(_SCALE)
        scale = self.param("scale_weight", init, (first.shape[-1],), jnp.float32)
        values = first.astype(wide(first.dtype))
        length = jnp.maximum(jnp.sqrt((values**2).sum(-1, keepdims=True)), _EPSILON)
        scaled = values / length * jax.lax.broadcast_to_rank(scale, 4)

        def conv(channels: int, kernel: int, name: str, x: jax.Array, **how: int) -> jax.Array:
            how = {"bias": True, "init": _xavier, "name": name, **how}
            return nn.relu(self.layers.conv(channels, kernel, **how)(x))

        x = max_pool(x, 3, 1, 1)
        x = conv(1024, 3, "extra.0.7.1", x, dilation=6)
        maps = [scaled.astype(first.dtype), conv(1024, 1, "extra.0.7.3", x)]
        for number, (inner, outer, stride, padding) in enumerate(_EXTRA, 1):
            x = conv(inner, 1, f"extra.{number}.0", maps[-1])
            x = conv(outer, 3, f"extra.{number}.2", x, stride=stride, padding=padding)
            maps.append(x)
        return maps


class SSDLiteMaps(nn.Module):
    """SSDLite's maps of images [B, S, S, 3].

    Attributes:
      body: the backbone.
      names: its two maps.
      layers: see `layers.Layers`.
    """

    body: Backbone
    names: tuple[str, str]
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> list[jax.Array]:
        """Six maps, from fine to coarse."""
        maps = list(self.body.features(image, train, self.names).values())
        own = self.layers.own(bn_epsilon=1e-3, bn_momentum=0.97)

        def step(channels: int, name: str, x: jax.Array, **how: int) -> jax.Array:
            how = {"act": relu6, "init": _normal, "name": name, **how}
            return conv_norm_act(own, x, train, channels, **how)

        for number, channels in enumerate((512, 256, 256, 128)):
            inner = channels // 2
            x = step(inner, f"extra.{number}.0", maps[-1])
            x = step(inner, f"extra.{number}.1", x, kernel=3, stride=2, groups=inner)
            maps.append(step(channels, f"extra.{number}.2", x))
        return maps

"""The networks of airbench (Jordan 2024, https://arxiv.org/abs/2404.00498) for CIFAR-10.

A first convolution that whitens patches of 2 x 2 pixels, then three pairs of 3x3 convolutions
without shortcuts: the fastest known way to 94 % is short for want of layers, not of width.
Source: github.com/KellerJordan/cifar10-airbench f1c599c4, legacy/airbench94.py and airbench95.py.
"""

from collections.abc import Container, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.models.backbone import Backbone, Maps
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.initial import torch_default
from imagenet_jax.models.layers.layers import Layers
from imagenet_jax.models.layers.max_pool import max_pool

_PATCH = 2  # pixels


def partial_identity(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """A kernel [H, W, in, out] whose first `in` outputs are the inputs, others `torch_default`."""
    kernel = torch_default(key, shape, dtype)
    height, width, inputs, outputs = shape
    same = jnp.zeros(shape, dtype)
    same = same.at[height // 2, width // 2].set(jnp.eye(inputs, outputs, dtype=dtype))
    return jnp.where(jnp.arange(outputs) < inputs, same, kernel)


class _Group(nn.Module):
    """Two convolutions, the first with max-pooling."""

    features: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, conv = self.layers, partial(self.layers.conv, init=partial_identity)
        x = max_pool(conv(self.features, name="conv1")(x), 2, 2)
        x = layers.gelu(layers.norm(name="norm1")(x, train))
        x = conv(self.features, name="conv2")(x)
        return layers.gelu(layers.norm(name="norm2")(x, train))


class Airbench(Backbone):
    """For images [B, H, W, 3] of 32 pixels or a few less.

    Attributes:
      num_classes: number of logits.
      widths: channels of the three groups.
      layers: conventions.
    """

    num_classes: int
    widths: Sequence[int] = (64, 256, 256)
    layers: Layers = Layers()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps whiten (after its activation) and layers.1 to layers.3; see `Backbone.maps`."""
        layers = self.layers.own(bn_momentum=0.6, bn_epsilon=1e-12)
        x = image.astype(layers.dtype)
        patch = 2 * 3 * _PATCH**2
        whiten = layers.conv(patch, _PATCH, padding=0, bias=True, init=torch_default, name="whiten")
        x = layers.gelu(whiten(x))
        yield "whiten", x
        for number, features in enumerate(self.widths, 1):
            x = layers.block(_Group)(features, layers, name=f"layers.{number}")(x, train)
            yield f"layers.{number}", x
        x = x.max((1, 2)).astype(wide(layers.dtype))
        head = layers.head(self.num_classes, name="head", init=torch_default, bias=False)
        return head(x) / 9

    @nn.nowrap
    def data_dependent(self, images: np.ndarray) -> dict[str, Any]:
        """The initial values of the first convolution, which whitens patches of these images.

        Args:
          images: as the network sees them, float32 [B, H, W, 3].
        """
        return {"params": {"whiten": {"kernel": whitening(images, _PATCH)}}}


def whitening(images: np.ndarray, size: int, epsilon: float = 5e-4) -> np.ndarray:
    """A kernel float32 [size, size, 3, 6 size^2] that whitens patches, and its negative.

    Its filters are the eigenvectors of the patches' second moments, the largest first, each over
    the root of its eigenvalue.

    Args:
      images: float32 [B, H, W, 3].
      size: of the patches in pixels.
      epsilon: added to the eigenvalues.
    """
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), (1, 2))
    flat = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[-1])
    values, vectors = np.linalg.eigh(flat.T.astype(np.float64) @ flat / len(flat))
    filters = (vectors / np.sqrt(values + epsilon))[:, ::-1]
    # An eigenvector has no sign of its own; let its largest entry be positive.
    filters = filters * np.sign(filters[np.abs(filters).argmax(0), np.arange(filters.shape[1])])
    kernel = filters.reshape(size, size, images.shape[-1], -1)
    return np.concatenate([kernel, -kernel], -1).astype(np.float32)


airbench94 = Airbench
airbench95 = partial(Airbench, widths=(128, 384, 384))

"""Masked autoencoders (He et al. 2021, https://arxiv.org/abs/2111.06377).

A ViT sees a quarter of the patches of an image; a smaller transformer behind it, the decoder,
fills in the pixels of the others. Modules have the names of facebookresearch/mae, models_mae.py.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.config.mae_fields import seen_patches
from imagenet_jax.errors import ConfigError
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.layers import Layers, normal_02
from imagenet_jax.models.layers.sincos import sincos2d
from imagenet_jax.models.table import create_model
from imagenet_jax.models.vit import EncoderBlock, Visible, ViT

MASK_TOKEN = "mask_token"
_DECODER = "decoder_"


def is_of_decoder(name: str) -> bool:
    """Whether a module or parameter of the top level is one that a classifier has no use for."""
    return name == MASK_TOKEN or name.startswith(_DECODER)


class Masked(NamedTuple):
    """Images of which most patches are to be hidden, in place of images alone.

    Attributes:
      image: [B, H, W, 3], float32 and normalised.
      noise: float32 [B, T], a number for each patch, row by row; those with the least are seen.
    """

    image: jax.Array
    noise: jax.Array


class Reconstruction(NamedTuple):
    """What is made of `Masked` images.

    Attributes:
      features: float32 [B, D], the mean of the patches that are seen, each normalised.
      patches: float32 [B, T, P], what the decoder says of the pixels of each, see `to_patches`.
      masked: bool [B, T], which of them were hidden.
    """

    features: jax.Array
    patches: jax.Array
    masked: jax.Array


class MaskedAutoencoder(nn.Module):
    """Features of images; of `Masked` ones a `Reconstruction`.

    The encoder's parameters have the paths that they have in the classifier, "norm" among them,
    whatever its pool; the decoder's are beside them.

    Attributes:
      backbone: the encoder, without classes; its class token, if it has one, goes through the
        decoder too, as in the reference.
      mask_ratio: int(T * (1 - mask_ratio)) of T patches are seen.
      decoder_depth, decoder_width, decoder_heads: of the decoder.
    """

    backbone: ViT
    mask_ratio: float = 0.75
    decoder_depth: int = 8
    decoder_width: int = 512
    decoder_heads: int = 16

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)
        # What was said of the blocks of the encoder is not of these.
        own = {"uniform_drop_path": None, "without_blocks": (), "channels": ()}
        layers, xavier = dataclasses.replace(self.layers, **own), self._is_xavier
        init = nn.initializers.xavier_uniform() if xavier else normal_02
        block = layers.block(EncoderBlock)
        how = (self.decoder_heads, 0.0, 0.0, 0.0, layers, xavier)
        self.embed = layers.dense(self.decoder_width, init=init, name=f"{_DECODER}embed")
        self.mask_token = self.param(MASK_TOKEN, normal_02, (1, 1, self.decoder_width), jnp.float32)
        self.blocks = [block(*how, name=f"{_DECODER}blocks.{n}") for n in range(self.decoder_depth)]
        self.norm = layers.layer_norm(name=f"{_DECODER}norm")
        self.pred = layers.dense(3 * self.backbone.patch**2, init=init, name=f"{_DECODER}pred")

    @property
    def layers(self) -> Layers:
        """Of the backbone."""
        return self.backbone.layers

    @property
    def heads(self) -> int:
        """By what divides these, attention can be spread over devices in both transformers."""
        return math.gcd(self.backbone.heads, self.decoder_heads)

    @property
    def _is_xavier(self) -> bool:
        return self.backbone.kernel_init == "xavier"

    def __call__(self, inputs: jax.Array | Masked, train: bool) -> jax.Array | Reconstruction:
        """Features float32 [B, D] of images [B, H, W, 3], the mean of all patches, each normalised;
        of `Masked` ones see there."""
        if isinstance(inputs, Masked):
            return self._reconstructed(inputs, train)
        if self.is_initializing():  # the decoder has parameters, too
            patches = self._patches(inputs)
            self._reconstructed(Masked(inputs, jnp.zeros((inputs.shape[0], patches))), train)
        return self._pooled(self.backbone(Visible(inputs), train))

    def features(self, image: jax.Array, train: bool, names: Sequence[str]) -> dict[str, jax.Array]:
        """As `Backbone.features`."""
        return self.backbone.features(image, train, names)

    @nn.nowrap
    def _patches(self, image: jax.Array) -> int:
        return image.shape[1] // self.backbone.patch * (image.shape[2] // self.backbone.patch)

    @nn.nowrap
    def _pooled(self, x: jax.Array) -> jax.Array:
        """Tokens [B, T, C] to the mean of the patches among them, float32 [B, C] at least."""
        return x[:, self.backbone.tokens :].mean(1, dtype=wide(x.dtype))

    def _reconstructed(self, inputs: Masked, train: bool) -> Reconstruction:
        """`random_masking`, the encoder and the decoder of the reference."""
        image, noise = inputs
        patches, extra = noise.shape[1], self.backbone.tokens
        order = jnp.argsort(noise, axis=1)
        rank = jnp.argsort(order, axis=1)  # the place of each patch in that order
        seen = seen_patches(patches, self.mask_ratio)
        encoded = self.backbone(Visible(image, order[:, :seen]), train)
        x = self.embed(encoded)
        hidden = (x.shape[0], patches - seen, self.decoder_width)
        hidden = jnp.broadcast_to(self.mask_token.astype(x.dtype), hidden)
        in_order = jnp.concatenate([x[:, extra:], hidden], 1)
        placed = jnp.take_along_axis(in_order, rank[..., None], 1)
        sides = (side // self.backbone.patch for side in image.shape[1:3])
        placed += jnp.asarray(sincos2d(*sides, self.decoder_width)).astype(x.dtype)
        x = jnp.concatenate([x[:, :extra], placed], 1)
        for block in self.blocks:
            x = block(x, train)
        x = self.pred(self.norm(x)[:, extra:])
        return Reconstruction(self._pooled(encoded), x.astype(wide(x.dtype)), rank >= seen)


def create_masked_autoencoder(
    name: str,
    *,
    mask_ratio: float = 0.75,
    decoder_depth: int = 8,
    decoder_width: int = 512,
    decoder_heads: int = 16,
    **options: Any,
) -> MaskedAutoencoder:
    """A Linen module, e.g. `create_masked_autoencoder("vit_b16", pos_embed="sincos2d")`.

    Args:
      name: of the encoder, a ViT of the table of models.
      mask_ratio, decoder_depth, decoder_width, decoder_heads: see `MaskedAutoencoder`.
      **options: of the encoder, see `create_model`.

    Raises:
      ConfigError: for a name or an option that does not exist, or a model that is no ViT.
    """
    backbone = create_model(name, num_classes=0, **options)
    if not isinstance(backbone, ViT):
        raise ConfigError(f"config.model.name = {name!r} has no patches to hide; expected a ViT")
    return MaskedAutoencoder(backbone, mask_ratio, decoder_depth, decoder_width, decoder_heads)

"""A masked autoencoder in PyTorch, after He et al. 2021, of timm's blocks; an oracle."""

import functools

import numpy as np
import pytest
import torch
from oracles import torchvision

torchvision()  # timm imports it
timm = pytest.importorskip("timm", reason="timm is not installed")


class MaskedAutoencoder(torch.nn.Module):
    """Encoder and decoder with the names of the published weights.

    Positions are given: those of the encoder [1, T, width] without one of the class token, or None
    for learnt ones, and those of the decoder [1, T, decoder_width].
    """

    def __init__(self, size, patch, encoder, decoder, *, token, positions, decoder_positions):
        super().__init__()
        (width, depth, heads), (inner, layers, parts) = encoder, decoder
        count, self.patch, self.token = (size // patch) ** 2, patch, token
        norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
        block = functools.partial(
            timm.models.vision_transformer.Block, mlp_ratio=4, qkv_bias=True, norm_layer=norm
        )
        self.patch_embed = timm.layers.PatchEmbed(size, patch, 3, width)
        if token:
            self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, width))
        if positions is None:
            self.pos_embed = torch.nn.Parameter(torch.zeros(1, count + token, width))
        else:
            places = np.pad(positions, ((0, 0), (int(token), 0), (0, 0)))
            self.register_buffer("pos_embed", torch.tensor(places), persistent=False)
        self.blocks = torch.nn.Sequential(*[block(width, heads) for _ in range(depth)])
        self.norm = norm(width)
        self.decoder_embed = torch.nn.Linear(width, inner)
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, inner))
        places = np.pad(decoder_positions, ((0, 0), (int(token), 0), (0, 0)))
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.decoder_blocks = torch.nn.Sequential(*[block(inner, parts) for _ in range(layers)])
        self.decoder_norm = norm(inner)
        self.decoder_pred = torch.nn.Linear(inner, patch**2 * 3)

    def _tokens(self, image):
        x = self.patch_embed(image)
        if self.token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        return x + self.pos_embed

    def features(self, image):
        """The mean of the normalised patches, none hidden."""
        return self.norm(self.blocks(self._tokens(image)))[:, int(self.token) :].mean(1)

    def forward(self, image, noise, ratio):
        """Tokens of what is seen, pixels of all patches, and a mask that is 1 for the hidden."""
        x, first = self._tokens(image), int(self.token)
        count = noise.shape[1]
        keep, hidden = int(count * (1 - ratio)), torch.ones_like(noise)
        rows = torch.arange(len(x))[:, None]
        seen = noise.argsort(1)[:, :keep]
        hidden[rows, seen] = 0
        encoded = torch.cat([x[:, :first], x[rows, seen + first]], 1)
        encoded = self.norm(self.blocks(encoded))
        y = self.decoder_embed(encoded)
        whole = self.mask_token.repeat(len(y), count + first, 1)
        whole[:, :first] = y[:, :first]
        whole[rows, seen + first] = y[:, first:]
        whole = self.decoder_norm(self.decoder_blocks(whole + self.places))
        return encoded, self.decoder_pred(whole)[:, first:], hidden

    def patches(self, image):
        """The pixels of images [B, 3, S, S] by patches [B, T, patch * patch * 3]."""
        unfolded = torch.nn.functional.unfold(image, self.patch, stride=self.patch)
        parts = unfolded.transpose(1, 2).unflatten(2, (3, self.patch**2))
        return parts.transpose(2, 3).flatten(2)

    def errors(self, image, told, hidden, norm_pixels):
        """The mean squared error of what is hidden of each image."""
        wanted = self.patches(image)
        if norm_pixels:
            variance = wanted.var(-1, keepdim=True)
            wanted = (wanted - wanted.mean(-1, keepdim=True)) / (variance + 1e-6).sqrt()
        return ((told - wanted).square().mean(-1) * hidden).sum(1) / hidden.sum(1)

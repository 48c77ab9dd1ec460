"""Vision transformers (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

In the forms of AugReg (Steiner et al. 2021, https://arxiv.org/abs/2106.10270) and DeiT (Touvron
et al. 2020, https://arxiv.org/abs/2012.12877), which differ in their training only; timm's names.
"""

import dataclasses
from collections.abc import Container, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.errors import ConfigError
from imagenet_jax.models.backbone import Backbone, Level, Maps
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.image_conv import image_conv
from imagenet_jax.models.layers.layers import Layers, add_shortcut, linear_rates, normal_02
from imagenet_jax.models.layers.mlp import Mlp
from imagenet_jax.models.layers.positions import resampled
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.self_attention import Attention
from imagenet_jax.models.layers.sincos import sincos2d

_XAVIER = {"init": nn.initializers.xavier_uniform(), "bias_init": nn.initializers.normal(1e-6)}


class EncoderBlock(Residual):
    """Attention and an MLP, each after LayerNorm and beside a shortcut.

    Attributes:
      heads: of the attention.
      dropout: rate after each linear layer but the qkv's.
      drop_path: rate of stochastic depth.
      layer_scale: initial value of the scale of both branches (DeiT III); 0: none.
      layers: see `layers.Layers`.
      xavier: initial kernels by Xavier's rule, see `ViT`.
    """

    heads: int
    dropout: float
    drop_path: float
    layer_scale: float
    layers: Layers
    xavier: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers

        def add(x: jax.Array, branch: jax.Array, name: str) -> jax.Array:
            if self.layer_scale:
                init = nn.initializers.constant(self.layer_scale)
                gamma = self.param(f"{name}.gamma", init, x.shape[-1:], jnp.float32)
                branch *= jax.lax.broadcast_to_rank(gamma.astype(branch.dtype), branch.ndim)
            return add_shortcut(x, layers.drop_path(self.drop_path)(branch, train))

        # Of a square matrix, and of each of those in qkv, Xavier's and LeCun's range is the same.
        square = nn.initializers.lecun_uniform() if self.xavier else normal_02
        attend = Attention(self.heads, layers, square, name="attn")
        y = attend(layers.layer_norm(name="norm1")(x))
        x = add(x, layers.dropout(self.dropout)(y, train), "ls1")
        init = _XAVIER if self.xavier else {}
        mlp = Mlp(4 * x.shape[-1], layers, self.dropout, **init, name="mlp")
        return add(x, mlp(layers.layer_norm(name="norm2")(x), train), "ls2")


class Visible(NamedTuple):
    """Images of which some patches are looked at, in place of images alone.

    Attributes:
      image: [B, H, W, 3].
      places: int32 [B, K], the numbers of these patches, counted row by row; None: all of them.
    """

    image: jax.Array
    places: jax.Array | None = None


class ViT(Backbone):
    """A transformer over the patches of images [B, H, W, 3].

    Learnt positions are for square images of the size it was initialised with, and resampled for
    those of another one.

    Of `Visible` images it gives the tokens [B, tokens + K, C] behind the last block, each
    normalised by "norm", and has no layers after it.

    Attributes:
      patch: height and width of a patch in pixels.
      width, depth, heads: of the encoder.
      num_classes: number of logits.
      pool: "token": a class token gives the logits; "avg": the mean of the patches, normalised
        (timm's fc_norm); "norm_avg": the mean of the normalised patches (big_vision's gap).
      pos_embed: "learn": a parameter; "sincos2d": fixed, see `sincos2d`.
      representation_size: width of a layer with tanh before the head, as in the paper's
        pre-training; 0: none.
      kernel_init: "normal": kernels of the blocks from N(0, 0.02), as timm's; "xavier": by Glorot
        & Bengio 2010, and biases of the MLPs from N(0, 1e-6), as in big_vision and torchvision.
      dropout: rate after the position embedding and in the blocks.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
      layer_scale: see `EncoderBlock`.
      distilled: a second token with a head of its own, which learns from a teacher (DeiT); the
        logits are the mean of both heads. Where the collection "distillation" is mutable it gets
        those of the second, and those of the first are returned.
      scan: compile one block in a loop instead of `depth` blocks in a row; the parameters stay
        as they are, the random numbers of dropout become others.
      layers: see `layers.Layers`.
    """

    patch: int
    width: int
    depth: int
    heads: int
    num_classes: int
    pool: str = "token"
    pos_embed: str = "learn"
    representation_size: int = 0
    kernel_init: str = "normal"
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float = 0.0
    distilled: bool = False
    scan: bool = False
    layers: Layers = Layers()

    @property
    def tokens(self) -> int:
        """Before those of the patches."""
        return (1 + self.distilled) * (self.pool == "token")

    @nn.nowrap
    def maps(self, image: jax.Array | Visible, train: bool, names: Container[str]) -> Maps:
        """Maps blocks.N of the patches, not normalised; see `Backbone.maps`."""
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide config.model.width = {self.width}")
        layers, visible = self.layers, image if isinstance(image, Visible) else None
        x = (visible.image if visible else image).astype(layers.dtype)
        options = {"bias": True, "init": nn.initializers.lecun_normal(), "padding": 0}
        embed = partial(layers.conv, **options, conv_general_dilated=image_conv)
        x = embed(self.width, self.patch, self.patch, name="patch_embed.proj")(x)
        grid = x.shape  # [B, h, w, C]
        x = x.reshape(x.shape[0], -1, self.width)
        x = self._placed(x, grid[1:3])
        if visible and visible.places is not None:
            x = self._seen(x, visible.places)
        tokens = layers.dropout(self.dropout)(x, train)
        in_a_loop = self.scan and not self.is_initializing()
        encode = self._in_a_loop if in_a_loop else self._in_a_row
        for name, x in encode(tokens, train, names):
            yield name, x if visible else x[:, -grid[1] * grid[2] :].reshape(grid)
        if visible:
            return layers.layer_norm(name="norm")(x)
        if self.distilled:
            return self._of_two_heads(x)
        x = self._pooled(x)
        if self.representation_size:
            whole = dataclasses.replace(layers, dtype=wide(layers.dtype))  # as the head computes
            init = nn.initializers.lecun_normal()
            x = jnp.tanh(whole.dense(self.representation_size, init=init, name="pre_logits")(x))
        zeros = nn.initializers.zeros
        return layers.head(self.num_classes, init=zeros, name="head")(x)

    @nn.nowrap
    def _placed(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Patches x [B, T, C], and the tokens before them if there are any, in their places."""
        inits = {"cls_token": nn.initializers.zeros, "dist_token": normal_02}
        for name, init in reversed(list(inits.items())[: self.tokens]):
            first = self.param(name, init, (1, 1, self.width), jnp.float32)
            first = jnp.broadcast_to(first.astype(x.dtype), (x.shape[0], 1, self.width))
            x = jnp.concatenate([first, x], 1)
        if self.pos_embed == "learn":
            learnt = self.variables.get("params", {}).get("pos_embed", x)
            shape = (1, learnt.shape[1], self.width)
            place = self.param("pos_embed", normal_02, shape, jnp.float32)
            if shape[1] != x.shape[1]:
                place = resampled(place, grid, self.tokens)
        else:
            place = np.pad(sincos2d(*grid, self.width), ((0, 0), (self.tokens, 0), (0, 0)))
        return x + jnp.asarray(place).astype(x.dtype)

    @nn.nowrap
    def _seen(self, x: jax.Array, places: jax.Array) -> jax.Array:
        """Of tokens [B, T, C] those before the patches, and the patches of these numbers [B, K]."""
        patches = jnp.take_along_axis(x[:, self.tokens :], places[..., None], 1)
        return jnp.concatenate([x[:, : self.tokens], patches], 1)

    @nn.nowrap
    def _pooled(self, x: jax.Array) -> jax.Array:
        """Tokens [B, T, C] to one vector each, [B, C]."""
        norm = self.layers.layer_norm
        if self.pool == "token":
            return norm(name="norm")(x[:, 0])
        if self.pool == "norm_avg":
            return norm(name="norm")(x).mean(1, dtype=wide(x.dtype))
        return norm(name="fc_norm")(x.mean(1, dtype=wide(x.dtype)))

    @nn.nowrap
    def _of_two_heads(self, x: jax.Array) -> jax.Array:
        """The logits float32 [B, num_classes] of tokens [B, T, C], see `distilled`."""
        if self.pool != "token" or self.representation_size:
            raise ConfigError(
                "a distillation token needs config.model.pool = 'token', representation_size = 0"
            )
        head = partial(self.layers.head, self.num_classes, init=nn.initializers.zeros)
        x = self.layers.layer_norm(name="norm")(x[:, :2])
        first, second = head(name="head")(x[:, 0]), head(name="head_dist")(x[:, 1])
        if self.is_initializing() or not self.is_mutable_collection("distillation"):
            return (first + second) / 2
        self.sow("distillation", "logits", second)
        return first

    @nn.nowrap
    def levels_among(self, maps: Sequence[Level]) -> Sequence[Level]:
        """All blocks, of one stride."""
        return maps

    @nn.nowrap
    def _in_a_row(
        self, x: jax.Array, train: bool, names: Container[str]
    ) -> Iterator[tuple[str, jax.Array]]:
        """Yields the name of each block and its tokens [B, T, C]."""
        for number, rate in enumerate(linear_rates(self.drop_path, self.depth)):
            name = f"blocks.{number}"
            x = self._block(rate, name=name)(x, train)
            yield name, x

    @nn.nowrap
    def _in_a_loop(
        self, x: jax.Array, train: bool, names: Container[str]
    ) -> Iterator[tuple[str, jax.Array]]:
        """The same as far as the last block in `names`; without any, of the last block only."""
        blocks = [f"blocks.{number}" for number in range(self.depth)]
        asked = [number for number, name in enumerate(blocks) if name in names]
        blocks = blocks[: max(asked, default=self.depth) + 1]
        without = self.layers.without_blocks
        there = [number for number, name in enumerate(blocks) if name not in without]
        if not there:  # nothing to loop over
            yield from self._in_a_row(x, train, names)
            return
        key = self.make_rng("dropout") if self.has_rng("dropout") else None

        def body(x: jax.Array, layer: tuple[Any, jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
            params, rate, number = layer
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
            block = self._block(rate if self.drop_path else 0.0, parent=None)
            x = block.apply({"params": params}, x, train, rngs=rngs)
            return x, x if asked else None

        params = [self.variables["params"][blocks[number]] for number in there]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        rates = jnp.array(linear_rates(self.drop_path, self.depth))[jnp.array(there)]
        last, each = jax.lax.scan(body, x, (stacked, rates, jnp.array(there)))
        if not asked:
            yield blocks[-1], last
            return
        each = iter(each)
        for number, name in enumerate(blocks):
            x = next(each) if number in there else x
            yield name, x

    @nn.nowrap
    def _block(self, rate: float | jax.Array, **place: Any) -> nn.Module:
        make, xavier = self.layers.block(EncoderBlock), self.kernel_init == "xavier"
        return make(self.heads, self.dropout, rate, self.layer_scale, self.layers, xavier, **place)


_TINY = partial(ViT, width=192, depth=12, heads=3)
_SMALL = partial(ViT, width=384, depth=12, heads=6)
_BASE = partial(ViT, width=768, depth=12, heads=12)
_LARGE = partial(ViT, width=1024, depth=24, heads=16)
vit_ti16 = partial(_TINY, patch=16)
vit_s32 = partial(_SMALL, patch=32)
vit_s16 = partial(_SMALL, patch=16)
vit_b32 = partial(_BASE, patch=32)
vit_b16 = partial(_BASE, patch=16)
vit_b8 = partial(_BASE, patch=8)
vit_l16 = partial(_LARGE, patch=16)
vit_l32 = partial(_LARGE, patch=32)
deit_ti16 = partial(vit_ti16, drop_path=0.1)
deit_s16 = partial(vit_s16, drop_path=0.1)
deit_b16 = partial(vit_b16, drop_path=0.1)
deit_ti16_distilled = partial(deit_ti16, distilled=True)
deit_s16_distilled = partial(deit_s16, distilled=True)
deit_b16_distilled = partial(deit_b16, distilled=True)

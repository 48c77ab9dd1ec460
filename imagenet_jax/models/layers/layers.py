"""The layers that all models are made of, with the conventions of torch.

A module is named as its counterpart in the reference implementation, dots included
("layer1.0", "features.3"), so that a path joined by dots is the name of the torch parameter.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.layers.convolution import convolution
from imagenet_jax.models.layers.dropout import Dropout
from imagenet_jax.models.layers.dtypes import wide
from imagenet_jax.models.layers.gelu import gelu
from imagenet_jax.models.layers.image_conv import image_conv
from imagenet_jax.models.layers.matmul import dot_general
from imagenet_jax.models.layers.norm import BatchNorm, sign
from imagenet_jax.models.layers.platforms import CPU, GPU, TPU, choose, stored
from imagenet_jax.models.layers.pointwise import Product
from imagenet_jax.models.layers.quantized import NAME, Quantized

# torch's kaiming_normal_(mode="fan_out")
kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# By the value of Layers.conv_init.
_CONV_INITS = {
    "fan_out": kaiming,
    "fan_in": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "lecun": nn.initializers.lecun_normal(),
    "xavier": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    "normal": nn.initializers.normal(0.01),
}
_SCALE_INITS = {"ones": nn.initializers.ones, "uniform": nn.initializers.uniform(1.0)}
# torch's trunc_normal_(std=0.02), which cuts at 2, a hundred standard deviations: nowhere
normal_02 = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Layers:
    """Makes the layers of a model; its attributes are options of every model.

    Attributes:
      dtype: of the computation; parameters, statistics and logits are float32.
      bn_group_size: see `norm.BatchNorm`.
      bn_momentum: share of the old running statistics kept; None: the model's own.
      bn_epsilon: added to the variance; None: the model's own.
      axis_name: mapped axis over which the batch is spread under shard_map or pmap.
      fused_norm: normalise in fewer passes over memory, where a layer can (`pointwise_norm`,
        `norm_max_pool`); for batches that are one group on each device.
      tanh_gelu: GELU by the tanh approximation, as JAX's own models have it; torch's have erf.
      fast_variance: of LayerNorm, as E[x^2] - E[x]^2, as Flax has it; torch's is exact.
      remat: compute the activations within a block again in the backward pass, not keep them.
      head_bias: initial bias of the logits.
      frozen_norm: BatchNorm is a constant function, see `norm.BatchNorm`.
      head_std: standard deviation of the initial kernel of the logits; None: the model's own.
      conv_init: initial kernels of convolutions: "fan_out" or "fan_in" (He et al. 2015), "lecun"
        (1998, Flax's default), "xavier" (Caffe's), "normal" (AlexNet), or "": the model's own.
      bn_init: initial scales of BatchNorm, "ones" or "uniform" (from 0 to 1), where the model has
        no other.
      uniform_drop_path: rate of stochastic depth of all blocks; None: the model's own, which rises
        from block to block.
      channels: "LAYER=NUMBER" of layers that have other numbers of outputs than the model's own,
        LAYER being a path as "layer1.0/conv1"; see `within`.
      without_blocks: names of residual blocks that are left out, as "layer1.1": those that
        `blocks.removable_blocks` finds. The others keep their names and rates of stochastic depth.
      quantize: "int8": kernels, and what they are multiplied with, are rounded; see `Quantized`.
      quantize_skip: regular expressions of paths of kernels that are not.
    """

    dtype: Any = jnp.float32
    bn_group_size: int = 0
    bn_momentum: float | None = None
    bn_epsilon: float | None = None
    axis_name: str | None = None
    fused_norm: bool = False
    tanh_gelu: bool = False
    fast_variance: bool = False
    remat: bool = False
    frozen_norm: bool = False
    head_bias: float = 0.0
    head_std: float | None = None
    conv_init: str = ""
    bn_init: str = "ones"
    uniform_drop_path: float | None = None
    channels: tuple[str, ...] = ()
    without_blocks: tuple[str, ...] = ()
    quantize: str = ""
    quantize_skip: tuple[str, ...] = ()

    def within(self, name: str) -> "Layers":
        """For a module of that name: `channels` are those of its layers."""
        if not self.channels:
            return self
        prefix = f"{name}/"
        inner = (entry for entry in self.channels if entry.startswith(prefix))
        return dataclasses.replace(self, channels=tuple(map(partial(_after, prefix), inner)))

    def width(self, name: str, own: int) -> int:
        """The outputs of a layer of this module, by `channels` or else the model's own."""
        found = (entry.rpartition("=") for entry in self.channels)
        return next((int(count) for path, _, count in found if path == name), own)

    def own(self, *, bn_momentum: float = 0.9, bn_epsilon: float = 1e-5) -> "Layers":
        """With the model's own values where none are given."""
        return dataclasses.replace(
            self,
            bn_momentum=bn_momentum if self.bn_momentum is None else self.bn_momentum,
            bn_epsilon=bn_epsilon if self.bn_epsilon is None else self.bn_epsilon,
        )

    def conv(
        self,
        features: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        *,
        name: str,
        padding: int | str | tuple[int, int] | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        init: Callable = kaiming,
        **options: Any,
    ) -> nn.Conv:
        """A convolution; padded by dilation * (kernel - 1) // 2 unless `padding` says else.

        `options` go to flax's module. A depthwise one has as many groups as outputs, however many.
        """
        depthwise, features = 1 < groups == features, self.width(name, features)
        groups = features if depthwise else groups
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        if padding is None:
            padding = tuple(dilation * (side - 1) // 2 for side in size)
        if isinstance(padding, int):
            padding = (padding, padding)
        product = options.pop("conv_general_dilated", convolution)
        return nn.Conv(
            features,
            size,
            (stride, stride),
            padding=padding if isinstance(padding, str) else [(pad, pad) for pad in padding],
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=_CONV_INITS.get(self.conv_init, init),
            name=name,
            **self._product("conv_general_dilated", product),
            **options,
        )

    def product(self, of: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        """A product of x and a kernel, rounded if `quantize` says so; for a compact method."""
        if not self.quantize:
            return of
        momentum, skip = self.own().bn_momentum, self.quantize_skip
        return Quantized(of, skip, momentum, self.axis_name, name=NAME)

    def _product(self, name: str, of: Callable[..., jax.Array]) -> dict[str, Any]:
        """The attribute of Flax's layers that says by what they multiply."""
        return {f"{name}_cls": partial(self.product, of)} if self.quantize else {name: of}

    def norm(self, *, name: str, scale_init: Callable | None = None) -> BatchNorm:
        """Batch normalisation."""
        layers = self.own()
        return BatchNorm(
            group_size=self.bn_group_size,
            momentum=layers.bn_momentum,
            epsilon=layers.bn_epsilon,
            dtype=self.dtype,
            scale_init=scale_init or _SCALE_INITS[self.bn_init],
            axis_name=self.axis_name,
            frozen=self.frozen_norm,
            name=name,
        )

    def pointwise_norm(
        self,
        features: int,
        x: jax.Array,
        train: bool,
        *,
        conv: str,
        norm: str,
        stride: int = 1,
        scale_init: Callable | None = None,
        store: bool = False,
    ) -> jax.Array | Product:
        """The 1x1 convolution named `conv` of x [B, H, W, C] and the batch normalisation `norm`.

        To be finished by `pointwise.add`. In training in one pass over memory, see `pointwise`, if
        the result is wide and x is not. `store`: then with the pixels of x that the stride leaves
        as an array of their own, on a TPU.
        """
        convolution = self.conv(features, 1, stride, name=conv)
        normalise = self.norm(scale_init=scale_init, name=norm)
        width, features = x.shape[-1], convolution.features
        narrow = width < 512 and features >= max(128, 2 * width)
        fused = self.fused_norm and train and not (self.frozen_norm or self.quantize)
        if not (narrow and fused) or convolution.is_initializing():
            return normalise(convolution(x), train)
        kernel = convolution.variables["params"]["kernel"][0, 0]
        x = x[:, ::stride, ::stride]
        return normalise(stored(TPU, x) if store else x, train, kernel=kernel)

    def norm_max_pool(
        self,
        conv: Callable[..., nn.Conv],
        x: jax.Array,
        train: bool,
        *,
        norm: str,
        max_pool: Callable,
    ) -> jax.Array:
        """max_pool(normalised conv()(x)) of images x; if `fused_norm`, normalised after it.

        The kernel gets the signs of the scales, so that the largest values stay the largest.
        `conv` is `Layers.conv` with its arguments bound, `norm` the name of the norm.
        """
        normalise = self.norm(name=norm)
        if not self.fused_norm:
            return max_pool(normalise(conv(conv_general_dilated=image_conv)(x), train))
        params = normalise.variables.get("params")
        signs = 1.0 if params is None else sign(params["scale"])

        def signed(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
            kernel = kernel * jax.lax.broadcast_to_rank(
                jnp.asarray(signs, kernel.dtype), kernel.ndim
            )
            return image_conv(x, kernel, *args, **options)

        return normalise(conv(conv_general_dilated=signed)(x), train, max_pool=max_pool)

    def dense(
        self,
        features: int,
        *,
        name: str,
        bias: bool = True,
        init: Callable = normal_02,
        bias_init: Callable = nn.initializers.zeros,
    ) -> nn.Dense:
        """A linear layer."""
        return nn.Dense(
            self.width(name, features),
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=init,
            bias_init=bias_init,
            name=name,
            **self._product("dot_general", dot_general),
        )

    def head(
        self, classes: int, *, name: str, init: Callable = normal_02, bias: bool = True
    ) -> Callable[[jax.Array], jax.Array]:
        """The linear layer that gives logits, in float32 at least; of no classes none, so that a
        network gives the features that it would see."""
        if not classes:
            return lambda x: x.astype(wide(self.dtype))
        inits = self.head_inits(init)
        return nn.Dense(
            classes,
            use_bias=bias,
            dtype=wide(self.dtype),
            kernel_init=inits["init"],
            bias_init=inits["bias_init"],
            name=name,
            **self._product("dot_general", jax.lax.dot_general),
        )

    def head_inits(self, own: Callable) -> dict[str, Callable]:
        """Initialisers of the layer that gives logits, `own` being the model's for its kernel."""
        std = self.head_std
        zeros = nn.initializers.zeros
        init = own if std is None else nn.initializers.normal(std) if std else zeros
        return {"init": init, "bias_init": nn.initializers.constant(self.head_bias)}

    def layer_norm(self, *, name: str, epsilon: float = 1e-6) -> nn.LayerNorm:
        """Layer normalisation over the last axis, with statistics in float32."""
        fast = self.fast_variance
        return nn.LayerNorm(epsilon, dtype=self.dtype, use_fast_variance=fast, name=name)

    def group_norm(self, *, name: str, groups: int = 32) -> nn.GroupNorm:
        """Normalisation of groups of channels of each image (Wu & He 2018), as torch's."""
        how = {"dtype": self.dtype, "use_fast_variance": self.fast_variance, "name": name}
        return nn.GroupNorm(groups, epsilon=1e-5, **how)

    def gelu(self, x: jax.Array) -> jax.Array:
        """x times the normal distribution's share below x (Hendrycks & Gimpel 2016)."""
        kind = {"approximate": self.tanh_gelu}
        return choose(CPU + GPU, partial(gelu, **kind), partial(nn.gelu, **kind), x)

    def dropout(self, rate: float) -> Dropout:
        """Dropout of single values."""
        return Dropout(rate, axis_name=self.axis_name)

    def drop_path(self, rate: float) -> Dropout:
        """Stochastic depth: the whole branch of an example at once (Huang et al. 2016)."""
        rate = rate if self.uniform_drop_path is None else self.uniform_drop_path
        return Dropout(rate, whole_example=True, axis_name=self.axis_name)

    def block(self, module: type[nn.Module]) -> Callable[..., nn.Module]:
        """A module called as block(x, train), rematerialised if asked; x, if it is left out."""
        module = nn.remat(module, static_argnums=(2,)) if self.remat else module
        return partial(self._if_there, module) if self.without_blocks else module

    def _if_there(
        self, module: type[nn.Module], *args: Any, name: str | None = None, **fields: Any
    ) -> Callable[..., jax.Array]:
        return _same if name in self.without_blocks else module(*args, name=name, **fields)


def _same(x: jax.Array, train: bool) -> jax.Array:
    return x


def _after(prefix: str, entry: str) -> str:
    return entry.removeprefix(prefix)


def add_shortcut(x: jax.Array, branch: jax.Array) -> jax.Array:
    """x + branch; a CPU stores it and its gradient, else XLA adds up all branches in each block."""
    return stored(CPU, x + branch)


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` next to `channels`, no less than 90 % of it (MobileNet)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def linear_rates(last: float, count: int) -> Sequence[float]:
    """Rates of stochastic depth that rise from 0 to `last` over `count` blocks."""
    return [last * number / max(count - 1, 1) for number in range(count)]

"""Residual networks (He et al. 2015, https://arxiv.org/abs/1512.03385) in the v1.5 form.

v1.5 (torchvision, Goyal et al. 2017) puts the stride of a bottleneck on its 3x3
convolution. Padding is symmetric as in torch, so torch weights give the same logits.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagenet_jax.models.norm import BatchNorm

conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; `conv` and `norm` carry dtype and momentum."""

    width: int
    stride: int
    conv: Callable
    norm: Callable
    zero_init_residual: bool
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        y = self.conv(self.width, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y, train))
        y = self.conv(self.width, 3, 1, name="conv2")(y)
        y = self.norm(scale_init=last_scale, name="norm2")(y, train)
        return nn.relu(y + _shortcut(self, x, y.shape, train))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (strided), 1x1 up to four times the width, and a shortcut."""

    width: int
    stride: int
    conv: Callable
    norm: Callable
    zero_init_residual: bool
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        last_scale = nn.initializers.zeros if self.zero_init_residual else nn.initializers.ones
        y = nn.relu(self.norm(name="norm1")(self.conv(self.width, 1, 1, name="conv1")(x), train))
        y = self.conv(self.width, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(name="norm2")(y, train))
        y = self.conv(self.width * self.expansion, 1, 1, name="conv3")(y)
        y = self.norm(scale_init=last_scale, name="norm3")(y, train)
        return nn.relu(y + _shortcut(self, x, y.shape, train))


def _shortcut(block: nn.Module, x: jax.Array, shape: Sequence[int], train: bool) -> jax.Array:
    """The identity where shapes agree, else a strided 1x1 convolution (option B of the paper)."""
    if x.shape == tuple(shape):
        return x
    x = block.conv(shape[-1], 1, block.stride, name="conv_shortcut")(x)
    return block.norm(name="norm_shortcut")(x, train)


class ResNet(nn.Module):
    """A residual network for images [B, H, W, 3], float32 and normalised.

    Attributes:
      stage_sizes: blocks per stage; each stage after the first halves H and W.
      block: BasicBlock or Bottleneck.
      num_classes: number of logits.
      width: channels of the first stage, doubled at each stage.
      stem: "imagenet" (7x7 stride 2, 3x3 max-pool stride 2), "cifar" (3x3 stride 1) or
        "cifar_half" (4x4 stride 2, every stage at half the height and width).
      dtype: dtype of convolutions and activations; parameters and logits are float32.
      zero_init_residual: start every residual branch at zero (Goyal et al. 2017).
      bn_group_size, bn_momentum, bn_epsilon, axis_name: see `norm.BatchNorm`.
    """

    stage_sizes: Sequence[int]
    block: Callable
    num_classes: int
    width: int = 64
    stem: str = "imagenet"
    dtype: jnp.dtype = jnp.float32
    zero_init_residual: bool = True
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> jax.Array:
        """Logits float32 [B, num_classes]."""
        norm = partial(
            BatchNorm,
            group_size=self.bn_group_size,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        conv = partial(_conv, dtype=self.dtype)
        x = image.astype(self.dtype)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "cifar_half": (4, 2)}[self.stem]
        x = nn.relu(
            norm(name="norm_stem")(conv(self.width, kernel, stride, name="conv_stem")(x), train)
        )
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                x = self.block(
                    width=self.width * 2**stage,
                    stride=2 if stage and not index else 1,
                    conv=conv,
                    norm=norm,
                    zero_init_residual=self.zero_init_residual,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x, train)
        x = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)


def _conv(features: int, kernel: int, stride: int, *, dtype: jnp.dtype, name: str) -> nn.Conv:
    """A convolution without bias, padded by (kernel - 1) // 2 on each side as torch does."""
    pad = (kernel - 1) // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        dtype=dtype,
        kernel_init=conv_init,
        name=name,
    )


resnet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
resnet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
resnet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)
resnet101 = partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)
resnet152 = partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)
# The CIFAR networks of section 4.2 of the paper: three stages, 16 channels at first.
resnet8 = partial(ResNet, stage_sizes=(1, 1, 1), block=BasicBlock, width=16, stem="cifar")
resnet20 = partial(ResNet, stage_sizes=(3, 3, 3), block=BasicBlock, width=16, stem="cifar")

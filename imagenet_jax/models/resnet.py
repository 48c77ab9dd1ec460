"""Residual networks (He et al. 2015, https://arxiv.org/abs/1512.03385) in the v1.5 form.

v1.5 (torchvision, Goyal et al. 2017) puts the stride of a bottleneck on its 3x3 convolution.
ResNeXt: Xie et al. 2016, https://arxiv.org/abs/1611.05431. Wide ResNet: Zagoruyko and
Komodakis 2016, https://arxiv.org/abs/1605.07146.
"""

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Maps, check_output_stride
from imagenet_jax.models.layers.layers import Layers, global_avg_pool
from imagenet_jax.models.layers.max_pool import max_pool
from imagenet_jax.models.layers.platforms import relu
from imagenet_jax.models.layers.pointwise import Product, add


class Stem(NamedTuple):
    """The first convolution; `reduction`: its stride, times that of the pooling behind it."""

    kernel: int
    stride: int
    reduction: int


_STEMS = {"imagenet": Stem(7, 2, 4), "cifar": Stem(3, 1, 1), "cifar_half": Stem(4, 2, 2)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; `dilations` are those of the two."""

    width: int
    stride: int
    layers: Layers
    last_scale: Callable
    groups: int = 1
    base_width: int = 64
    dilations: tuple[int, int] = (1, 1)
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        first, second = self.dilations
        y = layers.conv(self.width, 3, self.stride, dilation=first, name="conv1")(x)
        y = nn.relu(layers.norm(name="bn1")(y, train))
        y = layers.conv(self.width, 3, dilation=second, name="conv2")(y)
        y = layers.norm(scale_init=self.last_scale, name="bn2")(y, train)
        return relu(add(y, _shortcut(self, x, train)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (strided, in groups), 1x1 up to four times the width, and a shortcut.

    The 3x3 convolution has the first of `dilations`, as in torchvision.
    """

    width: int
    stride: int
    layers: Layers
    last_scale: Callable
    groups: int = 1
    base_width: int = 64
    dilations: tuple[int, int] = (1, 1)
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        inner = self.width * self.base_width // 64 * self.groups
        y = layers.conv(inner, 1, name="conv1")(x)
        y = nn.relu(layers.norm(name="bn1")(y, train))
        y = layers.conv(
            inner, 3, self.stride, dilation=self.dilations[0], groups=self.groups, name="conv2"
        )(y)
        y = nn.relu(layers.norm(name="bn2")(y, train))
        names = {"conv": "conv3", "norm": "bn3", "scale_init": self.last_scale}
        y = layers.pointwise_norm(self.width * self.expansion, y, train, **names)
        return relu(add(y, _shortcut(self, x, train)))


def _shortcut(block: nn.Module, x: jax.Array, train: bool) -> jax.Array | Product:
    """The identity where shapes agree, else a strided 1x1 convolution (option B of the paper)."""
    features, stride = block.width * block.expansion, block.stride
    if stride == 1 and x.shape[-1] == features:
        return x
    names = {"conv": "downsample.0", "norm": "downsample.1"}
    return block.layers.pointwise_norm(features, x, train, stride=stride, **names, store=True)


class ResNet(Backbone):
    """A residual network for images [B, H, W, 3], float32 and normalised.

    Attributes:
      stage_sizes: blocks per stage; each stage after the first halves H and W.
      block: BasicBlock or Bottleneck.
      num_classes: number of logits.
      groups, base_width: of the 3x3 convolutions of a Bottleneck (ResNeXt, Wide ResNet).
      width: channels of the first stage, doubled at each stage.
      stem: "imagenet" (7x7 stride 2, 3x3 max-pool stride 2), "cifar" (3x3 stride 1) or
        "cifar_half" (4x4 stride 2, every stage at half the height and width).
      zero_init_residual: start every residual branch at zero (Goyal et al. 2017).
      output_stride: 8, 16 or 32, the largest stride of a map; a stage that would exceed it has
        dilated convolutions instead (DeepLab; torchvision's replace_stride_with_dilation).
      layers: see `layers.Layers`.
    """

    stage_sizes: Sequence[int]
    block: Callable
    num_classes: int
    groups: int = 1
    base_width: int = 64
    width: int = 64
    stem: str = "imagenet"
    zero_init_residual: bool = True
    output_stride: int = 32
    layers: Layers = Layers()

    def __post_init__(self) -> None:
        own = _STEMS[self.stem].reduction * 2 ** (len(self.stage_sizes) - 1)
        check_output_stride(self.output_stride, [*(s for s in (8, 16) if s < own), 32])
        super().__post_init__()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps relu (behind the stem) and layer1 to layer4; see `Backbone.maps`."""
        layers, x = self.layers, image.astype(self.layers.dtype)
        kernel, stride, reduction = _STEMS[self.stem]
        stem = partial(layers.conv, self.width, kernel, stride, name="conv1")
        pool = partial(max_pool, window=3, stride=2, padding=1)
        if self.stem == "imagenet" and "relu" not in names:
            x = nn.relu(layers.norm_max_pool(stem, x, train, norm="bn1", max_pool=pool))
        else:
            x = nn.relu(layers.norm(name="bn1")(stem()(x), train))
            yield "relu", x
            x = pool(x) if self.stem == "imagenet" else x
        zero, dilation = self.zero_init_residual, 1
        for stage, size in enumerate(self.stage_sizes):
            before, dilation = dilation, max(1, reduction * 2**stage // self.output_stride)
            for index in range(size):
                x = layers.block(self.block)(
                    width=self.width * 2**stage,
                    stride=2 if stage and not index and dilation == before else 1,
                    layers=layers,
                    last_scale=nn.initializers.zeros if zero else nn.initializers.ones,
                    groups=self.groups,
                    base_width=self.base_width,
                    dilations=(dilation if index else before, dilation),
                    name=f"layer{stage + 1}.{index}",
                )(x, train)
            yield f"layer{stage + 1}", x
        return layers.head(self.num_classes, init=nn.initializers.normal(0.01), name="fc")(
            global_avg_pool(x)
        )


resnet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
resnet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
resnet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)
resnet101 = partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)
resnet152 = partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)
resnext50_32x4d = partial(resnet50, groups=32, base_width=4)
resnext101_32x8d = partial(resnet101, groups=32, base_width=8)
resnext101_64x4d = partial(resnet101, groups=64, base_width=4)
wide_resnet50_2 = partial(resnet50, base_width=128)
wide_resnet101_2 = partial(resnet101, base_width=128)
# The CIFAR networks of section 4.2 of the paper: three stages, 16 channels at first.
resnet8 = partial(ResNet, stage_sizes=(1, 1, 1), block=BasicBlock, width=16, stem="cifar")
resnet20 = partial(ResNet, stage_sizes=(3, 3, 3), block=BasicBlock, width=16, stem="cifar")

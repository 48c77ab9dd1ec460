"""Residual networks (He et al. 2015, https://arxiv.org/abs/1512.03385) in the v1.5 form.

v1.5 (torchvision, Goyal et al. 2017) puts the stride of a bottleneck on its 3x3 convolution.
ResNeXt: Xie et al. 2016, https://arxiv.org/abs/1611.05431. Wide ResNet: Zagoruyko and
Komodakis 2016, https://arxiv.org/abs/1605.07146. ResNet-D: He et al. 2018,
https://arxiv.org/abs/1812.01187. ResNet-RS: Bello et al. 2021, https://arxiv.org/abs/2103.07579,
with timm's names.
"""

from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from imagenet_jax.models.backbone import Backbone, Maps, check_output_stride
from imagenet_jax.models.layers.avg_pool import global_avg_pool
from imagenet_jax.models.layers.blur import blur
from imagenet_jax.models.layers.image_conv import image_conv
from imagenet_jax.models.layers.layers import Layers, divisible, linear_rates
from imagenet_jax.models.layers.max_pool import max_pool
from imagenet_jax.models.layers.platforms import relu
from imagenet_jax.models.layers.pointwise import Product, add
from imagenet_jax.models.layers.residual import Residual
from imagenet_jax.models.layers.squeeze_excite import SqueezeExcite


class Stem(NamedTuple):
    """The first layers.

    Attributes:
      kernel, stride: of the first convolution.
      pool: what halves height and width behind it: "max", "conv" (3x3) or "".
      deep: three convolutions, not one.
    """

    kernel: int
    stride: int
    pool: str = ""
    deep: bool = False

    @property
    def reduction(self) -> int:
        """Height and width of the image over those of what it gives."""
        return self.stride * (2 if self.pool else 1)


_STEMS = {
    "imagenet": Stem(7, 2, "max"),
    "cifar": Stem(3, 1),
    "cifar_half": Stem(4, 2),
    "deep": Stem(3, 2, "max", deep=True),
    "deep_conv": Stem(3, 2, "conv", deep=True),
}
_BLURRED = 16  # channels: convolutions of fewer are not blurred, such as those of images


class BasicBlock(Residual):
    """Two 3x3 convolutions and a shortcut; `dilations` are those of the two."""

    width: int
    stride: int
    layers: Layers
    last_scale: Callable | None
    groups: int = 1
    base_width: int = 64
    dilations: tuple[int, int] = (1, 1)
    blurs: bool = False
    shortcut: str = "conv"
    se_ratio: float = 0.0
    drop_path: float = 0.0
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        first, second = self.dilations
        y = _blurred(self, x)
        y = layers.conv(self.width, 3, self.stride, dilation=first, name="conv1")(y)
        y = nn.relu(layers.norm(name="bn1")(y, train))
        y = layers.conv(self.width, 3, dilation=second, name="conv2")(y)
        y = layers.norm(scale_init=self.last_scale, name="bn2")(y, train)
        features = layers.width("conv2", self.width)
        return relu(add(_branch(self, y, train), _shortcut(self, x, train, features)))


class Bottleneck(Residual):
    """1x1 down, 3x3 (strided, in groups), 1x1 up to four times the width, and a shortcut.

    The 3x3 convolution has the first of `dilations`, as in torchvision.
    """

    width: int
    stride: int
    layers: Layers
    last_scale: Callable | None
    groups: int = 1
    base_width: int = 64
    dilations: tuple[int, int] = (1, 1)
    blurs: bool = False
    shortcut: str = "conv"
    se_ratio: float = 0.0
    drop_path: float = 0.0
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        inner = self.width * self.base_width // 64 * self.groups
        y = layers.conv(inner, 1, name="conv1")(x)
        y = nn.relu(layers.norm(name="bn1")(y, train))
        y = layers.conv(
            inner, 3, self.stride, dilation=self.dilations[0], groups=self.groups, name="conv2"
        )(_blurred(self, y))
        y = nn.relu(layers.norm(name="bn2")(y, train))
        names = {"conv": "conv3", "norm": "bn3", "scale_init": self.last_scale}
        y = layers.pointwise_norm(self.width * self.expansion, y, train, **names)
        features = layers.width("conv3", self.width * self.expansion)
        return relu(add(_branch(self, y, train), _shortcut(self, x, train, features)))


def _blurred(block: nn.Module, x: jax.Array) -> jax.Array:
    """What a convolution with the block's stride is given."""
    return blur(x) if _blurs(block, x) else x


def _blurs(block: nn.Module, x: jax.Array) -> bool:
    return block.blurs and block.stride > 1 and x.shape[-1] >= _BLURRED


def _branch(block: nn.Module, y: jax.Array | Product, train: bool) -> jax.Array | Product:
    """The residual branch, given its last norm's output."""
    if block.se_ratio:
        y = add(y)
        squeezed = divisible(block.se_ratio * y.shape[-1])
        y = SqueezeExcite(squeezed, block.layers.within("se"), name="se")(y)
    drop_path = block.layers.drop_path(block.drop_path)
    return drop_path(add(y), train) if drop_path.rate else y


def _shortcut(block: nn.Module, x: jax.Array, train: bool, features: int) -> jax.Array | Product:
    """The identity where shapes agree, else a 1x1 convolution (option B of the paper).

    That has the stride, or, in ResNet-D, an average of 2x2 pixels before it.
    """
    stride = block.stride
    if stride == 1 and x.shape[-1] == features:
        return x
    number = 0
    if block.shortcut == "avg":
        if stride > 1 or block.dilations[1] > 1:
            zeros = stride == 1  # count where a dilated map is padded, as in timm
            window = {"window_shape": (2, 2), "strides": (stride, stride), "padding": "SAME"}
            x = nn.avg_pool(x, **window, count_include_pad=zeros)
        stride, number = 1, 1  # as timm counts
    elif _blurs(block, x):
        x, stride = blur(x, stride), 1
    names = {"conv": f"downsample.{number}", "norm": f"downsample.{number + 1}"}
    return block.layers.pointwise_norm(features, x, train, stride=stride, **names, store=True)


class ResNet(Backbone):
    """A residual network for images [B, H, W, 3], float32 and normalised.

    Attributes:
      stage_sizes: blocks per stage; each stage after the first halves H and W.
      block: BasicBlock or Bottleneck.
      num_classes: number of logits.
      groups, base_width: of the 3x3 convolutions of a Bottleneck (ResNeXt, Wide ResNet).
      width: channels of the first stage, doubled at each stage.
      stem: "imagenet" (7x7 stride 2, 3x3 max-pool stride 2), "cifar" (3x3 stride 1),
        "cifar_half" (4x4 stride 2, every stage at half the height and width), "deep" (three 3x3,
        the first of stride 2, max-pool) or "deep_conv" (a 3x3 stride 2 in the max-pool's place).
      zero_init_residual: start every residual branch at zero (Goyal et al. 2017).
      output_stride: 8, 16 or 32, the largest stride of a map; a stage that would exceed it has
        dilated convolutions instead (DeepLab; torchvision's replace_stride_with_dilation).
      shortcut: "conv": a shortcut's 1x1 convolution has the stride; "avg": an average pooling
        before it (ResNet-D).
      blur_pool: what is blurred before its stride, see `blur.blur`: "" nothing; "conv" the
        convolutions of 16 channels or more (FFCV's recipes); "all" the max-pool, too (Composer's).
      se_ratio: channels in the middle of squeeze-and-excite over those of its branch; 0: none.
      dropout: rate before the last layer.
      drop_path: rate of stochastic depth of the last block; it rises from 0.
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
    shortcut: str = "conv"
    blur_pool: str = ""
    se_ratio: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0
    layers: Layers = Layers()

    def __post_init__(self) -> None:
        own = _STEMS[self.stem].reduction * 2 ** (len(self.stage_sizes) - 1)
        check_output_stride(self.output_stride, [*(s for s in (8, 16) if s < own), 32])
        super().__post_init__()

    @nn.nowrap
    def maps(self, image: jax.Array, train: bool, names: Container[str]) -> Maps:
        """Maps relu (behind the stem) and layer1 to layer4; see `Backbone.maps`."""
        stem, layers = _STEMS[self.stem], self.layers
        x, conv = self._entry(image.astype(layers.dtype), train)
        if stem.pool == "max" and self.blur_pool != "all" and "relu" not in names:
            pool = partial(max_pool, window=3, stride=2, padding=1)
            x = nn.relu(layers.norm_max_pool(conv, x, train, norm="bn1", max_pool=pool))
        else:
            x = nn.relu(layers.norm(name="bn1")(conv()(x), train))
            yield "relu", x
            x = self._pooled(x, train)
        zero, dilation = self.zero_init_residual, 1
        rates = iter(linear_rates(self.drop_path, sum(self.stage_sizes)))
        for stage, size in enumerate(self.stage_sizes):
            before, dilation = dilation, max(1, stem.reduction * 2**stage // self.output_stride)
            for index in range(size):
                name = f"layer{stage + 1}.{index}"
                x = layers.block(self.block)(
                    width=self.width * 2**stage,
                    stride=2 if stage and not index and dilation == before else 1,
                    layers=layers.within(name),
                    last_scale=nn.initializers.zeros if zero else None,
                    groups=self.groups,
                    base_width=self.base_width,
                    dilations=(dilation if index else before, dilation),
                    blurs=bool(self.blur_pool),
                    shortcut=self.shortcut,
                    se_ratio=self.se_ratio,
                    drop_path=next(rates),
                    name=name,
                )(x, train)
            yield f"layer{stage + 1}", x
        x = layers.dropout(self.dropout)(global_avg_pool(x), train)
        return layers.head(self.num_classes, init=nn.initializers.normal(0.01), name="fc")(x)

    @nn.nowrap
    def _entry(self, x: jax.Array, train: bool) -> tuple[jax.Array, Callable[..., nn.Conv]]:
        """What the last convolution of the stem is given, and what makes that convolution."""
        stem, layers = _STEMS[self.stem], self.layers
        if not stem.deep:
            return x, partial(layers.conv, self.width, stem.kernel, stem.stride, name="conv1")
        conv = partial(layers.conv, self.width // 2, stem.kernel)
        x = conv(stride=stem.stride, name="conv1.0", conv_general_dilated=image_conv)(x)
        x = nn.relu(layers.norm(name="conv1.1")(x, train))
        x = nn.relu(layers.norm(name="conv1.4")(conv(name="conv1.3")(x), train))
        return x, partial(layers.conv, self.width, stem.kernel, name="conv1.6")

    @nn.nowrap
    def _pooled(self, x: jax.Array, train: bool) -> jax.Array:
        """Behind the stem's last ReLU."""
        pool, layers = _STEMS[self.stem].pool, self.layers
        if pool == "max" and self.blur_pool == "all":
            return blur(max_pool(x, window=3, stride=1, padding=1), 2)
        if pool == "max":
            return max_pool(x, window=3, stride=2, padding=1)
        if pool == "conv":
            x = blur(x) if self.blur_pool and self.width >= _BLURRED else x
            x = layers.conv(self.width, 3, 2, name="maxpool.0")(x)
            x = nn.relu(layers.norm(name="maxpool.1")(x, train))
        return x


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
# Of the paper of ResNet-D, and timm's.
_D = {"stem": "deep", "shortcut": "avg"}
resnet18d, resnet34d = (partial(make, **_D) for make in (resnet18, resnet34))
resnet50d, resnet101d, resnet152d = (partial(m, **_D) for m in (resnet50, resnet101, resnet152))
resnet200d = partial(resnet50d, stage_sizes=(3, 24, 36, 3))
_rs = partial(
    ResNet, block=Bottleneck, stem="deep_conv", shortcut="avg", se_ratio=0.25, dropout=0.25
)
resnetrs50 = partial(_rs, stage_sizes=(3, 4, 6, 3))
resnetrs101 = partial(_rs, stage_sizes=(3, 4, 23, 3))
resnetrs152 = partial(_rs, stage_sizes=(3, 8, 36, 3))
resnetrs200 = partial(_rs, stage_sizes=(3, 24, 36, 3))
resnetrs270 = partial(_rs, stage_sizes=(4, 29, 53, 4))
resnetrs350 = partial(_rs, stage_sizes=(4, 36, 72, 4))
resnetrs420 = partial(_rs, stage_sizes=(4, 44, 87, 4))

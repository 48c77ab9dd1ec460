"""The fields of the network: config.model."""

import itertools
import re
from typing import Any

from imagenet_jax.config.field import Field, choice, is_pattern, number

# Those of detectors alone, which a backbone does not have.
OF_DETECTORS = (
    *("fpn_strides", "fpn_width", "fpn_bottom_up", "anchor_scale"),
    *("roi_samples", "proposals", "roi_width"),
)


def _are_strides(value: Any) -> bool:
    """Whether it is a value of model.fpn_strides."""
    try:
        strides = [int(stride) for stride in value]  # text, of the command line
    except (TypeError, ValueError):
        return False
    powers = all(stride > 1 and stride & (stride - 1) == 0 for stride in strides)
    return powers and all(b == 2 * a for a, b in itertools.pairwise(strides))


def _are_channels(value: Any) -> bool:
    """Whether it is a value of model.channels."""
    entries = [re.fullmatch(r"([^=\s]+)=([1-9][0-9]{0,4})", str(entry)) for entry in value]
    paths = [entry[1] for entry in entries if entry]
    return len({*paths}) == len(entries)


MODEL: dict[str, Field] = {
    "model.name": Field("resnet50", "a name of the table of models"),
    "model.head": choice(
        "",
        (
            *("", "fcn", "deeplabv3", "lraspp", "unet", "retinanet", "retinanet_v2", "fcos"),
            *("faster_rcnn", "faster_rcnn_v2", "faster_rcnn_mobile", "yolox", "detr"),
            *("ssd", "ssdlite"),
            *("mask_rcnn", "mask_rcnn_v2"),
        ),
        "what is made of the network's maps: the first four make classes of pixels (segmentation), "
        "see models/heads; the others boxes (detection), mask_rcnn masks too (instances), see "
        "models/detection; '': none, for classes of images",
    ),
    "model.fpn_strides": Field(
        (),
        "detection: strides of the maps of the pyramid, as (4, 8, 16, 32) for small objects; (): "
        "the detector's own, 8 to 128, or 4 to 64 of faster_rcnn; of ssd and ssdlite those of the "
        "two maps of the backbone; of detr that of its one map, 32",
        "powers of two from 2 on, each twice the one before",
        _are_strides,
    ),
    "model.fpn_width": Field(
        256,
        "detection: channels of the pyramid and of the head",
        "a multiple of 32",
        lambda v: v > 0 and v % 32 == 0,
    ),
    "model.fpn_bottom_up": Field(
        False, "detection: the pyramid goes back from fine maps to coarse ones (PANet)"
    ),
    "model.width": number(
        0, "channels of the first stage, or of a transformer's tokens; 0: the model's own", 0
    ),
    "model.patch": number(
        0, "ViTs, Mixers: height and width of a patch in pixels; 0: the model's own", 0, 2**10
    ),
    "model.depth": number(
        0,
        "ViTs, Mixers, RegNets: blocks; EfficientNets: factor of the blocks of a stage; 0: the "
        "model's own",
        0,
        10**3,
    ),
    "model.heads": number(
        0, "ViTs: heads of the attention, which divide the width; 0: the model's own", 0, 2**10
    ),
    "model.channels": Field(
        (),
        "ResNets, VGGs, MobileNets, EfficientNets: layers that have other numbers of outputs than "
        "the model's own, as `compress --structure=channels` leaves them",
        "PATH=NUMBER each, no path twice, as in ('layer1.0/conv1=24',)",
        _are_channels,
    ),
    "model.without_blocks": Field(
        (),
        "residual networks: blocks that are left out, as `compress --structure=blocks` does; those "
        "whose output has the shape of their input",
        "names of blocks, none twice, as in ('layer1.1', 'layer3.4')",
        lambda names: len({*names}) == len(names),
    ),
    "model.quantize": choice(
        "",
        ("", "int8"),
        "int8: kernels, and what they are multiplied with, are rounded to the levels of int8 in "
        "every forward pass, and gradients go straight through (quantization-aware training)",
    ),
    "model.quantize_skip": Field(
        (),
        "kernels that model.quantize leaves as they are: regular expressions of their paths, as "
        "('^conv1/', 'fc/kernel')",
        "regular expressions, as in ('^conv1/',)",
        lambda v: all(isinstance(p, str) and is_pattern(p) for p in v),
    ),
    "model.stem": choice(
        "",
        ("", "imagenet", "cifar", "cifar_half", "deep", "deep_conv"),
        "ResNets: 7x7 stride 2 with max-pool, 3x3 stride 1, 4x4 stride 2, three 3x3 with max-pool "
        "(ResNet-D), or with a strided 3x3 in its place (ResNet-RS); '': the model's own",
    ),
    "model.shortcut": choice(
        "",
        ("", "conv", "avg"),
        "ResNets: what has the stride of a shortcut, its 1x1 convolution or an average pooling "
        "before it (ResNet-D); '': the model's own",
    ),
    "model.blur_pool": choice(
        "",
        ("", "conv", "all"),
        "ResNets: 3x3 binomial filter before the stride of convolutions of 16 channels or more "
        "(FFCV), all: of the max-pool too (Composer); '': none",
    ),
    "model.se_ratio": number(
        0.0,
        "ResNets: squeeze-and-excite, channels in the middle over those of the branch, e.g. 0.25; "
        "0: the model's own",
        0,
        1,
    ),
    "model.anchor_scale": number(
        0.0,
        "detection but fcos: side of the smallest anchors of a map over its stride; 0: the "
        "detector's own, 4 or 8",
        0,
        64,
    ),
    "model.roi_samples": number(
        512, "faster_rcnn: proposals of an image that the second stage is trained on", 1, 10**4
    ),
    "model.proposals": number(
        0,
        "faster_rcnn: proposals of an image, the best ones; 0: 2,000 in training, 1,000 afterwards",
        0,
        10**4,
    ),
    "model.roi_width": number(
        1024, "faster_rcnn: width of the second stage's linear layers", 1, 2**14
    ),
    "model.dtype": choice(
        "bfloat16",
        ("float32", "bfloat16"),
        "dtype of the computation; float32 in the backend's default precision",
    ),
    "model.zero_init_residual": Field(True, "ResNets: residual branches start at zero"),
    "model.conv_init": choice(
        "",
        ("", "fan_out", "fan_in", "lecun", "xavier", "normal"),
        "initial kernels of convolutions: N(0, 2 / fan), fan_out as torchvision's ResNets, fan_in "
        "as NVIDIA's and Composer's; N(0, 1 / fan_in), Flax's, or with that variance uniform, "
        "xavier in Caffe; normal: N(0, 0.01^2), AlexNet's; '': the model's own",
    ),
    "model.bn_init": choice(
        "ones", ("ones", "uniform"), "initial scales of BatchNorm: 1, or from U(0, 1) (Composer)"
    ),
    "model.pool": choice(
        "",
        ("", "token", "avg", "norm_avg"),
        "ViTs: what gives the logits, see models/vit.py; '': the model's own",
    ),
    "model.pos_embed": choice(
        "",
        ("", "learn", "sincos2d"),
        "ViTs: position embeddings, learnt or sines and cosines; '': the model's own",
    ),
    "model.representation_size": number(
        0, "ViTs: width of a layer with tanh before the head; 0: none", 0
    ),
    "model.kernel_init": choice(
        "",
        ("", "normal", "xavier"),
        "ViTs: initial kernels of the blocks, N(0, 0.02) or Xavier's; '': the model's own",
    ),
    "model.head_std": Field(
        -1.0,
        "standard deviation of the initial kernel of the logits: 0.01 (Goyal et al. 2017), 0 "
        "(big_vision), 2e-5 (0.001 of 0.02, ConvNeXt's fine-tuning); -1: the model's own, or 0 "
        "where a new head is put on pretrained weights",
        "-1, or from 0 to 1",
        lambda v: v == -1 or 0 <= v <= 1,
    ),
    "model.head_bias": number(
        0.0, "initial bias of each logit, e.g. -6.9 for a probability of 0.001", -100, 100
    ),
    "model.dropout": Field(
        -1.0,
        "rate of dropout; -1: the model's own",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "model.drop_path": Field(
        -1.0,
        "rate of stochastic depth of the last block; -1: the model's own",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "model.uniform_drop_path": Field(
        -1.0,
        "rate of stochastic depth of every block (DeiT III), in place of model.drop_path, which "
        "rises from 0 to the last; -1: none",
        "-1, or from 0 to below 1",
        lambda v: v == -1 or 0 <= v < 1,
    ),
    "model.layer_scale": number(
        0.0,
        "ViTs, ConvNeXts (not V2): initial value of the scale of each branch, 1e-4 in DeiT III; 0: "
        "the model's own",
        0,
        10,
    ),
    "model.remat": Field(
        False, "compute activations within blocks again in the backward pass: less memory"
    ),
    "model.bn_group_size": number(
        32, "images that share batch statistics; 0: the whole (micro-)batch", 0
    ),
    "model.scan": Field(False, "ViTs: compile one block in a loop, not all in a row"),
    "model.fused_norm": Field(
        True,
        "ResNets, where a device holds one group: fewer passes over memory; see "
        "models/layers/pointwise.py",
    ),
    "model.tanh_gelu": Field(False, "GELU by the tanh approximation, as Flax's default"),
    "model.fast_variance": Field(
        False, "LayerNorm's variance as E[x^2] - E[x]^2, as Flax's default"
    ),
    "model.bn_momentum": number(
        0.0, "share of the old running statistics kept; 0: the model's own", 0, 1
    ),
    "model.frozen_norm": Field(
        False, "BatchNorm by the running statistics in training too; it is not trained"
    ),
    "model.reduced_tail": Field(
        False, "MobileNetV3: half the channels in the last stage, as torchvision's SSDLite"
    ),
    "model.output_stride": Field(
        0,
        "ResNets, MobileNet v3: largest stride of a map, convolutions are dilated beyond it; 0: "
        "the model's own",
        "one of 0, 8, 16, 32",
        lambda v: v in (0, 8, 16, 32),
    ),
    "model.bn_epsilon": number(0.0, "added to the variance; 0: the model's own", 0),
}

"""Weights whose arrays are named, or cut, otherwise than in our reference implementations.

Each function takes {name: array} as in the file and the model, and gives {our torch name: array
in torch's order of axes}, for `torch_layout.import_arrays`.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from imagenet_jax.errors import WeightsError
from imagenet_jax.models.densenet import DenseNet
from imagenet_jax.models.efficientnet import EfficientNet
from imagenet_jax.models.vit import ViT

Arrays = dict[str, np.ndarray]

# Part of a block: (what it is, the rest of its name); in blocks that expand, and in others.
_TIMM = {
    **{"conv_pw": ("expand", "0"), "bn1": ("expand", "1")},
    **{"conv_dw": ("depthwise", "0"), "bn2": ("depthwise", "1")},
    **{"se.conv_reduce": ("se", "fc1"), "se.conv_expand": ("se", "fc2")},
    **{"conv_pwl": ("project", "0"), "bn3": ("project", "1")},
}
_TIMM_PLAIN = {
    **{"conv_dw": ("depthwise", "0"), "bn1": ("depthwise", "1")},
    **{"se.conv_reduce": ("se", "fc1"), "se.conv_expand": ("se", "fc2")},
    **{"conv_pw": ("project", "0"), "bn2": ("project", "1")},
}
_LUKEMELAS = {
    **{"_expand_conv": ("expand", "0"), "_bn0": ("expand", "1")},
    **{"_depthwise_conv": ("depthwise", "0"), "_bn1": ("depthwise", "1")},
    **{"_se_reduce": ("se", "fc1"), "_se_expand": ("se", "fc2")},
    **{"_project_conv": ("project", "0"), "_bn2": ("project", "1")},
}


def from_timm_efficientnet(arrays: Mapping[str, np.ndarray], model: EfficientNet) -> Arrays:
    """timm's efficientnet_b* and tf_efficientnet_b*, _lite*: blocks.STAGE.INDEX.PART."""
    places = [(s, i) for s, count in enumerate(model.counts()) for i in range(count)]
    last = len(model.stages) + 1
    others = {
        **{"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": "classifier.1"},
        **{"conv_head": f"features.{last}.0", "bn2": f"features.{last}.1"},
    }

    def rename(module: str) -> str:
        match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", module)
        if not match:
            return others[module]
        parts = _parts(model, places.index((int(match[1]), int(match[2]))))
        kind, rest = (_TIMM if "expand" in parts else _TIMM_PLAIN)[match[3]]
        return f"{parts[kind]}.{rest}"

    return _renamed(arrays, rename)


def from_efficientnet_pytorch(arrays: Mapping[str, np.ndarray], model: EfficientNet) -> Arrays:
    """lukemelas/EfficientNet-PyTorch and its Lite descendants: _blocks.NUMBER._PART."""
    last = len(model.stages) + 1
    others = {
        **{"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_fc": "classifier.1"},
        **{"_conv_head": f"features.{last}.0", "_bn1": f"features.{last}.1"},
    }

    def rename(module: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(.+)", module)
        if not match:
            return others[module]
        kind, rest = _LUKEMELAS[match[2]]
        return f"{_parts(model, int(match[1]))[kind]}.{rest}"

    return _renamed(arrays, rename)


def _parts(model: EfficientNet, number: int) -> dict[str, str]:
    """{what it is: our name} of the modules of the block of this number."""
    places = [(s, i) for s, count in enumerate(model.counts()) for i in range(count)]
    stage, index = places[number]
    kinds = ["expand"] * (model.stages[stage].expansion > 1) + ["depthwise"]
    kinds += ["project"] if model.lite else ["se", "project"]
    name = f"features.{stage + 1}.{index}.block"
    return {kind: f"{name}.{place}" for place, kind in enumerate(kinds)}


def _renamed(arrays: Mapping[str, np.ndarray], rename: Callable[[str], str]) -> Arrays:
    renamed = {}
    for name, array in arrays.items():
        module, _, last = name.rpartition(".")
        try:
            renamed[f"{rename(module)}.{last}"] = array
        except (KeyError, IndexError, ValueError) as error:
            raise WeightsError(f"unexpected {name} {array.shape}: no such module") from error
    return renamed


# A module of AugReg's and big_vision's transformers, within Transformer/encoderblock_NUMBER.
_AUGREG_BLOCK = (
    (r"LayerNorm_0/(scale|bias)", "norm1"),
    (r"LayerNorm_[12]/(scale|bias)", "norm2"),
    (r"MlpBlock_\d/Dense_0/(kernel|bias)", "mlp.fc1"),
    (r"MlpBlock_\d/Dense_1/(kernel|bias)", "mlp.fc2"),
    (r"MultiHeadDotProductAttention_\d/out/(kernel|bias)", "attn.proj"),
    (r"MultiHeadDotProductAttention_\d/(?:query|key|value)/(kernel|bias)", "attn.qkv"),
)
_AUGREG = (
    (r"embedding/(kernel|bias)", "patch_embed.proj"),
    (r"Transformer/encoder_norm/(scale|bias)", "norm"),
    (r"pre_logits/(kernel|bias)", "pre_logits"),
    (r"head/(kernel|bias)", "head"),
)


def from_augreg(arrays: Mapping[str, np.ndarray], model: ViT) -> Arrays:
    """The .npz files of google-research/vision_transformer (AugReg) and big_vision."""
    arrays = {name.removeprefix("params/"): array for name, array in arrays.items()}
    made: Arrays = {}
    if "cls" in arrays:
        made["cls_token"] = arrays.pop("cls")
    for name in ("Transformer/posembed_input/pos_embedding", "pos_embedding"):
        if name in arrays:
            made["pos_embed"] = arrays.pop(name)
    for name in [name for name in arrays if re.search(r"/query/(kernel|bias)$", name)]:
        parts = [arrays.pop(name.replace("/query/", f"/{part}/")) for part in _QKV]
        # [C, heads, C / heads] each, biases [heads, C / heads]
        flat = [part.reshape(-1, model.width) if part.ndim == 3 else part.ravel() for part in parts]
        arrays[name] = np.concatenate(flat, -1)
    for name, array in arrays.items():
        block = re.match(r"Transformer/encoderblock_(\d+)/", name)
        rules = _AUGREG_BLOCK if block else _AUGREG
        prefix = f"blocks.{block[1]}." if block else ""
        inner = name[block.end() :] if block else name
        found = [(re.fullmatch(rule, inner), module) for rule, module in rules]
        module = next((f"{prefix}{module}.{m[1]}" for m, module in found if m), None)
        if module is None:
            raise WeightsError(f"unexpected {name} {array.shape}: no such module")
        made[_torch_name(module)] = _torch_axes(module, array)
    return made


_QKV = ("query", "key", "value")


def _torch_name(name: str) -> str:
    return re.sub(r"\.(kernel|scale)$", ".weight", name)


def _torch_axes(name: str, array: np.ndarray) -> np.ndarray:
    if not name.endswith(".kernel"):
        return array
    if array.ndim == 3:  # of the heads' outputs, [heads, C / heads, C]
        array = array.reshape(-1, array.shape[-1])
    return array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))


def from_torchvision_densenet(arrays: Mapping[str, np.ndarray], model: DenseNet) -> Arrays:
    """torchvision's files of DenseNet, older than its code: norm.1 for norm1."""
    pattern = r"(denselayer\d+\.(?:norm|conv))\.([12])\."
    return {re.sub(pattern, r"\1\2.", name): array for name, array in arrays.items()}

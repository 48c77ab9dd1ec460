"""The other side of `test_golden_updates`: small networks, losses and optimizers in torch and timm.

Constants stand here as the sources of the recipes have them, not as the configs do.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracles import torchvision

CLASSES = 10


def libraries() -> tuple[Any, Any]:
    """torch and timm, whose import needs torchvision's."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torchvision()
    for part in ("timm.loss", "timm.optim"):
        pytest.importorskip(part, reason="timm is not installed")
    return torch, pytest.importorskip("timm", reason="timm is not installed")


def resnet() -> Any:
    """A ResNet of three blocks of two layers for small images, 8 channels wide at first."""
    torch, _ = libraries()
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride > 1:
                shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (self.downsample(x) if self.downsample else x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(8)
            self.layer1 = nn.Sequential(Block(8, 8, 1))
            self.layer2 = nn.Sequential(Block(8, 16, 2))
            self.layer3 = nn.Sequential(Block(16, 32, 2))
            self.fc = nn.Linear(32, CLASSES)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return Network()


def vit() -> Any:
    """timm's DeiT, one block of 24 channels, for images of 32 pixels."""
    _, timm = libraries()
    options = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 3}
    return timm.create_model("deit_tiny_patch16_224", num_classes=CLASSES, **options)


def groups(decay: float, decays: Callable[[Any, str, Any], bool]) -> Callable[[Any], Any]:
    """Groups of parameters for torch's optimizers: those of which decays(module, name,
    parameter) is true, and the others."""

    def of(network: Any) -> list[dict[str, Any]]:
        parts: dict[bool, list[Any]] = {True: [], False: []}
        for path, module in network.named_modules():
            for name, parameter in module.named_parameters(path, recurse=False):
                parts[decays(module, name, parameter)].append(parameter)
        return [
            {"params": parts[True], "weight_decay": decay},
            {"params": parts[False], "weight_decay": 0.0},
        ]

    return of


def many_axes(module: Any, name: str, parameter: Any) -> bool:
    """timm's rule, with no_weight_decay() of its ViTs."""
    return parameter.ndim > 1 and name not in ("pos_embed", "cls_token")


def no_norm(module: Any, name: str, parameter: Any) -> bool:
    """torchvision's --norm-weight-decay=0."""
    return "Norm" not in type(module).__name__


def no_bn(module: Any, name: str, parameter: Any) -> bool:
    """NVIDIA's and FFCV's."""
    return "bn" not in name


@dataclasses.dataclass(frozen=True)
class Oracle:
    """What a recipe's source does with one batch.

    Attributes:
      network: makes it.
      loss: of logits [B, K], the two labels of each image, one-hot [B, K], and what mixes them.
      optimizer: of a network.
    """

    network: Callable[[], Any]
    loss: Callable[[Any, Any, Any, Callable], Any]
    optimizer: Callable[[Any], Any]


def smoothed_cross_entropy(logits: Any, label: Any, other: Any, mix: Callable) -> Any:
    """torch's, of mixed targets; torchvision, and others without mixing."""
    torch, _ = libraries()
    return torch.nn.functional.cross_entropy(logits, mix(label, other), label_smoothing=0.1)


def soft_cross_entropy(logits: Any, label: Any, other: Any, mix: Callable) -> Any:
    """DeiT: timm's Mixup smooths both labels, its loss takes what it is given."""
    _, timm = libraries()
    label, other = (0.9 * one_hot + 0.1 / CLASSES for one_hot in (label, other))
    return timm.loss.SoftTargetCrossEntropy()(logits, mix(label, other))


def thresholded(logits: Any, label: Any, other: Any, mix: Callable) -> Any:
    """A2: timm's binary cross-entropy, --bce-target-thresh 0.2, no smoothing."""
    _, timm = libraries()
    loss = timm.loss.BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2)
    return loss(logits, mix(label, other))


def sgd(rate: float, momentum: float, nesterov: bool, parts: Callable[[Any], Any]) -> Any:
    torch, _ = libraries()
    options = {"lr": rate, "momentum": momentum, "nesterov": nesterov}
    return lambda network: torch.optim.SGD(parts(network), **options)


def of_timm(name: str, parts: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    _, timm = libraries()
    return lambda network: getattr(timm.optim, name)(parts(network), **options)


def oracle(recipe: str) -> Oracle:
    """By its name, with its source's constants."""
    torch, _ = libraries()
    adamw = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    smoothed = smoothed_cross_entropy
    made = {
        # timm's Lamb clips the global norm to 1 by itself.
        "rsb:a2": (
            *(resnet, thresholded),
            lambda: of_timm("Lamb", groups(0.02, many_axes), lr=5e-3, eps=1e-6),
        ),
        "torchvision_v2:resnet50": (
            *(resnet, smoothed),
            lambda: sgd(0.5, 0.9, False, groups(2e-5, no_norm)),
        ),
        "deit:s": (
            *(vit, soft_cross_entropy),
            lambda: lambda net: torch.optim.AdamW(groups(0.05, many_axes)(net), **adamw),
        ),
        "nvidia_resnet50:90": (
            *(resnet, smoothed),
            lambda: sgd(2.048, 0.875, False, groups(2**-15, no_bn)),
        ),
        "mlperf_lars:32k": (
            *(resnet, smoothed),
            lambda: of_timm(
                *("Lars", groups(1e-4, many_axes)),
                **{"lr": 29.0, "momentum": 0.929, "trust_coeff": 1e-3, "eps": 0.0},
            ),
        ),
        "timm_efficientnet_b0:timm": (
            *(resnet, smoothed),
            lambda: of_timm(
                "RMSpropTF", groups(1e-5, many_axes), lr=0.048, alpha=0.9, eps=1e-3, momentum=0.9
            ),
        ),
        "ffcv_resnet50:16": (
            *(resnet, smoothed),
            lambda: sgd(1.7, 0.9, False, groups(1e-4, no_bn)),
        ),
    }
    network, loss, optimizer = made[recipe]
    return Oracle(network, loss, optimizer())


def arrays_of(tensors: Any) -> dict[str, np.ndarray]:
    """{name: array} of pairs, without the counters of norms."""
    return {
        name: tensor.detach().numpy().copy()
        for name, tensor in tensors
        if not name.endswith("num_batches_tracked")
    }

"""Reference implementations; the tests that need one skip where it is not installed."""

import contextlib
import functools
from types import ModuleType
from typing import Any

import pytest


@functools.cache
def torchvision() -> ModuleType:
    """torchvision; its wheel from PyPI lacks its compiled operators beside a CPU torch."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    library = torch.library.Library("torchvision", "DEF")
    for operator in (
        "nms(Tensor dets, Tensor scores, float iou) -> Tensor",
        "qnms(Tensor x) -> Tensor",
    ):
        with contextlib.suppress(RuntimeError):  # they are there
            library.define(operator)
    module = pytest.importorskip("torchvision", reason="torchvision is not installed")
    module.library_of_tests = library  # its operators go when it does
    return module


def reference_model(reference: str, **options) -> Any:
    """A model with random weights, by the table's "LIBRARY NAME"."""
    library, _, name = reference.partition(" ")
    if library == "timm":
        torchvision()  # timm imports it
        timm = pytest.importorskip("timm", reason="timm is not installed")
        return timm.create_model(name, num_classes=1000, **options)
    if library == "facenet_pytorch":
        return face_classifier(name, **options)
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": True}
    return torchvision().models.get_model(name, **options)


def face_classifier(name: str) -> Any:
    """facenet-pytorch's network, of which `last_linear` gives logits and nothing is behind it."""
    torchvision()  # facenet-pytorch imports it
    torch = pytest.importorskip("torch")
    faces = pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    model = getattr(faces, name)(classify=True, num_classes=1)
    model.last_linear = torch.nn.Linear(1792, 1000, bias=False)
    model.last_bn = model.logits = torch.nn.Identity()
    return model

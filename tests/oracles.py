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
    if library in ("facenet_pytorch", "TreB1eN/InsightFace_Pytorch"):
        return face_classifier(reference)
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": True}
    return torchvision().models.get_model(name, **options)


def face_embedder(reference: str) -> Any:
    """A network that gives embeddings of faces, by the table's "LIBRARY NAME"."""
    torchvision()  # facenet-pytorch imports it
    library, _, name = reference.partition(" ")
    if library == "facenet_pytorch":
        faces = pytest.importorskip(library, reason="facenet-pytorch is not installed")
        return getattr(faces, name)()
    import torch_faces

    return getattr(torch_faces, name)(128)


def face_classifier(reference: str) -> Any:
    """The same, but its last layer gives 1000 logits and nothing is behind it."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = face_embedder(reference)
    if hasattr(model, "last_linear"):
        model.classify = True  # else it divides by the length
        model.last_linear = torch.nn.Linear(1792, 1000, bias=False)
        model.last_bn = model.logits = torch.nn.Identity()
    else:
        model.linear = torch.nn.Linear(512, 1000, bias=False)
        model.bn, model.normalise = torch.nn.Identity(), torch.nn.Identity()
    return model

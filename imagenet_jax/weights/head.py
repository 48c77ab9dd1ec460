"""The last layer of a model, which depends on the classes of the data set."""

import dataclasses
import functools

import flax.linen as nn

from imagenet_jax.models.cost import variable_shapes
from imagenet_jax.models.heads.embedder import Embedder
from imagenet_jax.models.heads.masked_autoencoder import MaskedAutoencoder
from imagenet_jax.models.shared import SharedBackbone
from imagenet_jax.weights.torch_layout import leaves


@functools.lru_cache(maxsize=64)
def head_paths(model: nn.Module, image_size: int) -> tuple[tuple[str, ...], ...]:
    """Paths of the modules whose parameters depend on the number of classes.

    The last one gives the logits, or with "head" those of DeiT's distilled models; others are
    auxiliary heads, which run in training only. There are none of a network without classes.
    """
    one, two = (
        {leaf.path: leaf.shape for leaf in leaves(variable_shapes(m, image_size))}
        for m in (_of_classes(model, 1), _of_classes(model, 2))
    )
    found = dict.fromkeys(path[:-1] for path in one if one[path] != two[path])
    return tuple(found)


def head_path(model: nn.Module, image_size: int) -> tuple[str, ...]:
    """The path of the module that gives the logits."""
    return head_paths(model, image_size)[-1]


def _of_classes(model: nn.Module, count: int) -> nn.Module:
    """The model, or each head of several, for so many classes, or numbers of an embedding."""
    if isinstance(model, MaskedAutoencoder):
        return model  # which has none
    if isinstance(model, Embedder):
        return model.clone(backbone=model.backbone.clone(num_classes=count))
    if not isinstance(model, SharedBackbone):
        return model.clone(num_classes=count)
    heads = (
        dataclasses.replace(head, module=head.module.clone(num_classes=count))
        for head in model.heads
    )
    return model.clone(heads=tuple(heads))

"""Layers that the families share, and the forms that they take on one platform or another.

Each form computes the same, but for rounding; `platforms` chooses when a program is traced.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "BatchNorm": "norm",
    "Dropout": "dropout",
    "Layers": "layers",
    "choose": "platforms",
    "lowering_for": "platforms",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

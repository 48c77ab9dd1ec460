"""From the bytes of a file to pixels: decode, crop, resize, and policies on the host."""

from imagenet_jax.lazy import lazy_names

_NAMES = {"Preprocess": "preprocess", "decode_image": "decode"}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

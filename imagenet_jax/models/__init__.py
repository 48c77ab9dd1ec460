"""Flax Linen models and the table of them. Knows nothing of training."""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "Backbone": "backbone",
    "Level": "backbone",
    "MODELS": "table",
    "create_detector": "detection.detector",
    "create_model": "table",
    "create_segmenter": "heads.segmenter",
    "levels": "table",
}
__all__ = list(_NAMES)

# The facts of the models are read without Flax, which takes a second to import.
__getattr__ = lazy_names(__name__, _NAMES)

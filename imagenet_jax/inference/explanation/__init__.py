"""Which pixels an answer of a trained model depends on: heat maps of a class, a box, a segment."""

from imagenet_jax.lazy import lazy_names

_NAMES = {"Explainer": "explainer", "explain_photos": "photos"}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

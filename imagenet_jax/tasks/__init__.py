"""What a run learns: its loss and its metrics."""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "classification_sums": "metrics",
    "cross_entropy": "losses",
    "mixed_cross_entropy": "losses",
    "summarize": "metrics",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

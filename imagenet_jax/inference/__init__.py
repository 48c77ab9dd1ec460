"""A trained model, ready to use: it predicts, is evaluated and probed.

A `Classifier` comes from pretrained weights or from the working directory of a run.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "Classifier": "classifier",
    "evaluate_classifier": "evaluate",
    "pretrained_classifier": "classifier",
    "trained_classifier": "classifier",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

"""A trained model, ready to use: it predicts, is evaluated and probed.

`pretrained_model` gives one of pretrained weights, `training.trained_model` that of a run.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "evaluate_pretrained": "evaluate",
    "evaluate_run": "evaluate",
    "evaluate_suites": "evaluate",
    "predict_photos": "predict",
    "pretrained_model": "pretrained",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

"""Networks that find things and say where they are: a backbone, a pyramid of maps, a head.

Boxes are (left, top, right, bottom) in pixels, of what the network sees. All shapes are static:
what is not there is padding, which `matching`, `nms` and the heads leave out by its validity.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "Detections": "detections",
    "Detector": "detector",
    "HEADS": "detector",
    "METHODS": "detector",
    "create_detector": "detector",
    "detection_method": "detector",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

"""What a run shows, and what it leaves in its working directory.

Metrics, summary, curves, trackers, the progress line, and sheets of images.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "MetricsFile": "writers",
    "checkpoints_of": "workdir",
    "make_tracking": "tracking",
    "read_metrics": "writers",
    "saved_config": "workdir",
    "write_summary": "writers",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

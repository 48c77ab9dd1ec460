"""Data sets that train fast are built, verified and described here, by `launch.py prepare`."""

from imagenet_jax.lazy import lazy_names

_NAMES = {"Build": "build", "Encoding": "shards", "run_build": "build"}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

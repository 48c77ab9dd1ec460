"""Where encoded images and their labels come from: TFDS, folders, archives, lists, records.

A source gives an example for a number; what is read when is up to `data.order`.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {"ArraySource": "source", "EncodedSource": "source", "open_files": "files"}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

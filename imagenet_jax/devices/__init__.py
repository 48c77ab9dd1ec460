"""The mesh, what lies where on it, and how a pure step becomes a compiled one.

jit, shard_map and pmap give the same numbers, on any number of devices.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "bytes_per_device": "sharding",
    "compile_step": "parallel",
    "local_rows": "parallel",
    "make_mesh": "sharding",
    "put_batch": "parallel",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

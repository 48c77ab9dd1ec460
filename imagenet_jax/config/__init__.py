"""What is run: the fields of a config with their units and ranges, overrides, durations.

A config is a record: it holds every constant of a recipe and is saved with the run. Nothing here
imports JAX.
"""

from imagenet_jax.lazy import lazy_names

__all__ = [
    "apply_fields",
    "apply_overrides",
    "base_config",
    "differences",
    "find_config",
    "flatten",
    "from_dict",
    "from_json",
    "load_config",
    "model_options",
    "network_name",
    "to_json",
    "validate",
]

__getattr__ = lazy_names(
    __name__, dict.fromkeys(__all__, "config") | {"load_config": "files", "find_config": "files"}
)

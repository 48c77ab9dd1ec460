"""Flax Linen models and the table of them. Knows nothing of training."""

from imagenet_jax.lazy import lazy_names

__all__ = ["MODELS", "create_model"]

# The facts of the models are read without Flax, which takes a second to import.
__getattr__ = lazy_names(__name__, {"MODELS": "table", "create_model": "table"})

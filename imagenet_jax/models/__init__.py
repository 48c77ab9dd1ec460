"""Flax Linen models and the table of them. Knows nothing of training."""

from imagenet_jax.models.table import MODELS, create_model

__all__ = ["MODELS", "create_model"]

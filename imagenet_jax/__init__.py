"""Trains, fine-tunes, evaluates and studies image models of the ImageNet class with JAX."""

__version__ = "0.1.0"

"""Directions of optimizers where Optax has none, or another form than the published recipes."""

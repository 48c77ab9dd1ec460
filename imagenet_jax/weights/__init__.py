"""Pretrained weights: reading, naming, verifying and exporting them."""

"""Heads that see the maps of a backbone: what is where, and not only what there is."""

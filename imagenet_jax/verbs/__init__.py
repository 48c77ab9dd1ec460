"""What `launch.py` can do: one file a verb, with its flags, what it calls and how it shows it."""

from imagenet_jax.verbs.table import VERBS
from imagenet_jax.verbs.verb import Verb

__all__ = ["VERBS", "Verb"]

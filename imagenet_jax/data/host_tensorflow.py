"""TensorFlow for the host only. Other files of this package import `tf` from here."""

import os

# What is wrong is raised as well. JAX, where nobody says otherwise, has set 1 for its own messages,
# which it keeps.
_LEVEL = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3" if _LEVEL == "1" else _LEVEL
# Reading images does not use oneDNN, and it announces itself at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf  # noqa: E402

os.environ["TF_CPP_MIN_LOG_LEVEL"] = _LEVEL
# TensorFlow would otherwise take the memory of the accelerators that JAX trains on.
tf.config.set_visible_devices([], "GPU")

"""TensorFlow for the host only. Other files of this package import `tf` from here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Reading images does not use oneDNN, and it announces itself at every start.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

# TensorFlow would otherwise take the memory of the accelerators that JAX trains on.
tf.config.set_visible_devices([], "GPU")

"""TFDS and tf.data: data sets, order, preprocessing. The only place that imports TensorFlow,
and only where a data set needs it: `fake` works without."""

from imagenet_jax.data.catalog import Split, check_classes, open_split

__all__ = ["Split", "check_classes", "open_split"]

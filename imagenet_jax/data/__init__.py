"""TFDS and tf.data: data sets, order, preprocessing. The only place that imports TensorFlow,
and only where a data set needs it: `fake` works without."""

from imagenet_jax.lazy import lazy_names

__all__ = ["Split", "check_splits", "open_split"]

# The names of data sets are checked without JAX, which takes a second to import.
__getattr__ = lazy_names(
    __name__, {"Split": "catalog", "check_splits": "split_checks", "open_split": "catalog"}
)

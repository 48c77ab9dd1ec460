"""What a run learns: one `Task` a file, with its fields of a batch, its loss and its metrics.

`task` is the interface; `table` finds a task by its name in a config.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "Classification": "classification",
    "Meter": "task",
    "Multilabel": "multilabel",
    "Task": "task",
    "make_task": "table",
    "binary_cross_entropy": "losses",
    "classification_sums": "metrics",
    "cross_entropy": "losses",
    "mixed_cross_entropy": "losses",
    "summarize": "metrics",
    "task_split": "table",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

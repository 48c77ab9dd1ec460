"""The step and the loop, and what they are made of: state, optimizer, program, checkpoints.

`step` holds the whole arithmetic of a training step, `loop` all that happens around it.
"""

from imagenet_jax.lazy import lazy_names

_NAMES = {
    "Checkpoints": "checkpoint",
    "Program": "program",
    "TrainState": "state",
    "eval_step": "step",
    "evaluate_split": "evaluate",
    "make_program": "program",
    "starting_variables": "finetune",
    "state_sha256": "state",
    "train": "loop",
    "train_step": "step",
    "trained_model": "trained",
}
__all__ = list(_NAMES)
__getattr__ = lazy_names(__name__, _NAMES)

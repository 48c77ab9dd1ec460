"""Trains, fine-tunes, evaluates and studies image models of the ImageNet class with JAX.

What is here is the public interface; docs/api.md describes it with examples. All else may change
from one version to the next. The names are imported when they are first asked for.
"""

from typing import TYPE_CHECKING

from imagenet_jax.lazy import lazy_names

if TYPE_CHECKING:
    from imagenet_jax.api import (
        batches,
        list_models,
        load_config,
        load_model,
        starting_state,
        train,
        training_program,
    )
    from imagenet_jax.errors import UserError
    from imagenet_jax.inference.predictor import Predictor
    from imagenet_jax.models import create_detector, create_model, create_segmenter, levels
    from imagenet_jax.training.teacher_weights import teacher_variables

__version__ = "0.1.0"

__all__ = [
    "Predictor",
    "UserError",
    "batches",
    "create_detector",
    "create_model",
    "create_segmenter",
    "levels",
    "list_models",
    "load_config",
    "load_model",
    "starting_state",
    "teacher_variables",
    "train",
    "training_program",
]

__getattr__ = lazy_names(
    __name__,
    dict.fromkeys(__all__, "api")
    | {"Predictor": "inference.predictor", "UserError": "errors"}
    | dict.fromkeys(("create_detector", "create_model", "create_segmenter", "levels"), "models")
    | {"teacher_variables": "training.teacher_weights"},
)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""What a classifier said of each image of a split."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from imagenet_jax.tasks.metrics import rank_of

_KINDS = {
    "index": np.int32,
    "label": np.int32,
    "predicted": np.int32,
    "correct": np.bool_,
    "probability": np.float32,
    "label_probability": np.float32,
}


def answers(logits: jax.Array, label: jax.Array, probabilities: jax.Array) -> dict[str, jax.Array]:
    """What `Answers` takes of a batch but for index, [B] each.

    Args:
      logits: float32 [B, K].
      label: int32 [B].
      probabilities: of the classes, float32 [B, K].

    Returns:
      label and predicted, the most probable class, int32; correct, as `metrics.classification_sums`
      has it in its top-1; the probabilities of predicted and label, 0 to 1.
    """
    predicted = logits.argmax(-1).astype(jnp.int32)

    def of(classes: jax.Array) -> jax.Array:
        return jnp.take_along_axis(probabilities, classes[:, None], axis=-1)[:, 0]

    return {
        "label": label,
        "predicted": predicted,
        "correct": rank_of(logits, label) < 1,
        "probability": of(predicted),
        "label_probability": of(label),
    }


class Answers:
    """What was said of all examples; see `task.Meter`. It adds no metrics."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in _KINDS}

    def add(self, observed: Mapping[str, np.ndarray]) -> None:
        """Takes what `answers` says, and index int32 [n], the numbers in the split."""
        for name, parts in self._parts.items():
            parts.append(observed[name])

    def metrics(self) -> dict[str, float | int]:
        """None."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was added, [N] each."""
        return {
            name: np.concatenate([np.zeros(0, _KINDS[name]), *parts])
            for name, parts in self._parts.items()
        }

"""The names of the methods, and which one is taken where none is named."""

from collections.abc import Sequence

from imagenet_jax.errors import ConfigError, did_you_mean

GRAD_CAM = "grad_cam"
INTEGRATED_GRADIENTS = "integrated_gradients"
SMOOTH_GRAD = "smooth_grad"
OCCLUSION = "occlusion"
ATTENTION_ROLLOUT = "attention_rollout"
METHODS = (GRAD_CAM, INTEGRATED_GRADIENTS, SMOOTH_GRAD, OCCLUSION, ATTENTION_ROLLOUT)
STEPS = 50  # gradients of an image
# Whose maps tell what speaks against the answer, too: by negative values.
SIGNED = (INTEGRATED_GRADIENTS, OCCLUSION)
# Whose maps tell each pixel apart.
OF_PIXELS = (INTEGRATED_GRADIENTS, SMOOTH_GRAD)


def check_methods(names: Sequence[str], *, of_class: bool = False) -> list[str]:
    """Each name once.

    Args:
      names: of methods; (): see `Explainer`.
      of_class: whether one class, box or segment is asked for.

    Raises:
      ConfigError: for a name that does not exist, or if no method tells classes apart.
    """
    for name in names:
        if name not in METHODS:
            hint = did_you_mean(name, METHODS)
            raise ConfigError(f"there is no method {name!r}; expected {', '.join(METHODS)}{hint}")
    if of_class and set(names) == {ATTENTION_ROLLOUT}:
        raise ConfigError(
            f"{ATTENTION_ROLLOUT} is the same for every class; explain one by {GRAD_CAM} or another"
        )
    return list(dict.fromkeys(names))

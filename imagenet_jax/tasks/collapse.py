"""Whether features of different images differ at all: learnt without labels, they can collapse."""

from typing import Any

COLLAPSED = 0.05  # of `feature_std`: below it a run warns


def feature_std(features: Any, mask: Any = None) -> Any:
    """How far the directions of features are spread: 1 evenly over the sphere, 0 all the same.

    The mean over the D dimensions of the standard deviation over the images of the features
    divided by their length, times sqrt(D). SimSiam (Chen and He 2020,
    https://arxiv.org/abs/2011.10566, section 4.1) tells a collapse by it.

    Args:
      features: float32 [B, D], of NumPy or of JAX: of all images that are compared, the whole
        global batch in training. One that is all 0 has no direction and stays 0.
      mask: bool [B], False for rows without an image; None: each has one.

    Returns:
      float32 [], 0 of no images; NaN where a feature is.
    """
    xp, (count, size) = features.__array_namespace__(), features.shape
    weight = xp.ones((count, 1), xp.float32)
    if mask is not None:
        weight = xp.where(mask[:, None], weight, 0)
    weight = weight / xp.maximum(weight.sum(), xp.ones((), xp.float32))
    length = xp.sqrt((features**2).sum(1))[:, None]
    direction = xp.where(weight > 0, features, 0) / xp.where(length > 0, length, 1)
    away = direction - (weight * direction).sum(0)[None]
    return xp.sqrt((weight * away**2).sum(0)).mean() * size**0.5


def concern_of(spread: float) -> str:
    """A line about features that have collapsed, by their `feature_std`; "" of others."""
    if not spread < COLLAPSED:
        return ""
    return (
        f"feature_std = {spread:.3g} is below {COLLAPSED}: the features of all images have nearly "
        "one direction, as when what learns them has collapsed"
    )

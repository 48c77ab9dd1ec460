"""Non-maximum suppression, exact and of static shape."""

import jax
import jax.numpy as jnp

from imagenet_jax.models.detection.boxes import pairwise_iou


def suppress(boxes: jax.Array, classes: jax.Array, valid: jax.Array, threshold: float) -> jax.Array:
    """Which boxes greedy non-maximum suppression keeps, bool [n].

    A box goes if a better one of its class that is kept overlaps with it by an IoU above the
    threshold. That is the fixed point of a rule for all boxes at once, which is reached after as
    many rounds as the longest chain of boxes each of which depends on the one before has: 5 to 9 of
    real ones, n at most.

    Args:
      boxes: [n, 4], the best ones first.
      classes: int [n].
      valid: bool [n]; False: padding, which is not kept.
      threshold: of the IoU.
    """
    number = jnp.arange(len(boxes))
    better = number[:, None] < number[None]
    same = classes[:, None] == classes[None]
    rivals = better & same & (pairwise_iou(boxes, boxes) > threshold)

    def change(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = carry
        after = valid & ~(rivals & kept[:, None]).any(0)
        return after, (after != kept).any()

    kept, _ = jax.lax.while_loop(lambda carry: carry[1], change, (valid, jnp.array(True)))
    return kept
